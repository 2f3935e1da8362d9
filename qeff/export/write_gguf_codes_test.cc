// SPDX-License-Identifier: Apache-2.0
//
// GGUF files of models that are quantized already: no value changes.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/export/head_rows.h"
#include "qeff/export/write_gguf_model.h"
#include "qeff/io/gguf_file.h"
#include "qeff/io/io_testutil.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Rows of 192, which are whole blocks of 32.
TestModel MakeModel(const std::string& family) {
  if (family == "gpt2") return MakeTestModel(family, R"({"n_embd": 192})");
  if (family == "mpt") return MakeTestModel(family, R"({"d_model": 192})");
  return MakeTestModel(family,
                       R"({"hidden_size": 192, "head_dim": 32,
                           "intermediate_size": 256, "sliding_window": null})");
}

class WriteGgufCodesTest : public testing::Test {
 protected:
  // `model`, quantized.
  std::shared_ptr<const Transformer> Quantize(const TestModel& model,
                                              const QuantizeOptions& options,
                                              DType dtype = DType::kBF16) {
    const auto checkpoint = OpenTestModel(model, dtype);
    const std::string folder = MakeTestFolder() + "/quantized";
    const auto plan =
        PlanQuantization(*checkpoint, *MapModel(*checkpoint), options);
    EXPECT_TRUE(plan.ok()) << plan.status();
    const auto pool = *CreateThreadPool(2);
    const absl::Status status =
        QuantizeCheckpoint(*checkpoint, *plan, folder, *pool);
    EXPECT_TRUE(status.ok()) << status;
    const auto loaded = Transformer::Load(*Checkpoint::Open(folder));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *loaded;
  }

  std::shared_ptr<const Transformer> Quantize(const TestModel& model,
                                              const std::string& scheme,
                                              DType dtype = DType::kBF16) {
    QuantizeOptions options;
    options.scheme = *ParseQuantScheme(scheme);
    return Quantize(model, options, dtype);
  }

  absl::StatusOr<GgufModelReport> Write(const Transformer& model,
                                        const GgufModelTypes& types = {}) {
    const auto pool = *CreateThreadPool(2);
    return WriteGgufModel(model, SomeTokenizer(), types, path_, pool.get());
  }

  // The file that Write has made.
  std::shared_ptr<const GgufFile> Open() {
    const auto file = GgufFile::Open(path_);
    EXPECT_TRUE(file.ok()) << file.status();
    return *file;
  }

  const std::string folder_ = MakeTestFolder();
  const std::string path_ = folder_ + "/model.gguf";
};

struct NamedRole {
  LinearRole role;
  const char* name;
};

std::vector<NamedRole> RolesOf(const TransformerSpec& spec) {
  std::vector<NamedRole> roles = {{LinearRole::kO, "attn_output"},
                                  {LinearRole::kUp, "ffn_up"},
                                  {LinearRole::kDown, "ffn_down"}};
  if (spec.gated_ffn) {
    roles.push_back({LinearRole::kGate, "ffn_gate"});
    roles.push_back({LinearRole::kQ, "attn_q"});
    roles.push_back({LinearRole::kK, "attn_k"});
    roles.push_back({LinearRole::kV, "attn_v"});
  } else {
    roles.push_back({LinearRole::kQkv, "attn_qkv"});
  }
  return roles;
}

// That every layer of every block has this type and the model's values.
void ExpectLayers(const Transformer& model, const GgufFile& file,
                  GgmlType type) {
  const TransformerSpec& spec = model.spec();
  for (int64_t block = 0; block < spec.num_layers; ++block) {
    for (const NamedRole& named : RolesOf(spec)) {
      const std::string name =
          absl::StrCat("blk.", block, ".", named.name, ".weight");
      const GgufTensorInfo* info = file.Find(name);
      ASSERT_NE(info, nullptr) << name;
      EXPECT_EQ(info->type, type) << name;
      LinearWeights weights = *model.LoadLinear(block, named.role);
      Matrix<float>& expected = weights.weight;
      const bool rotated =
          named.role == LinearRole::kQ || named.role == LinearRole::kK;
      if (spec.family != "qwen2" && spec.family != "qwen3" && rotated) {
        InterleaveHeads(spec.head_dim, expected.cols(), expected.span());
      }
      std::vector<float> values(expected.span().size());
      ASSERT_TRUE(file.ReadRows(*info, 0, absl::MakeSpan(values)).ok());
      ASSERT_TRUE(std::equal(values.begin(), values.end(), expected.data()))
          << name;
    }
  }
}

struct Repacked {
  const char* scheme;
  GgmlType type;
};

constexpr Repacked kRepacked[] = {
    {"int2_g32", GgmlType::kQ4_0}, {"int3_g64", GgmlType::kQ4_0},
    {"int4_g32", GgmlType::kQ4_0}, {"int4_g64", GgmlType::kQ4_0},
    {"int4", GgmlType::kQ4_0},     {"int5_g32", GgmlType::kQ5_0},
    {"int6_g32", GgmlType::kQ8_0}, {"int8_g32", GgmlType::kQ8_0},
    {"int8", GgmlType::kQ8_0},     {"mxfp4", GgmlType::kMXFP4},
    {"mxint8", GgmlType::kQ8_0},   {"q4_0", GgmlType::kQ4_0},
    {"q8_0", GgmlType::kQ8_0},
};

class FamilyTest : public WriteGgufCodesTest,
                   public testing::WithParamInterface<const char*> {};

TEST_P(FamilyTest, NoValueChanges) {
  const TestModel model = MakeModel(GetParam());
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const Repacked& repacked : kRepacked) {
      SCOPED_TRACE(repacked.scheme);
      const auto quantized = Quantize(model, repacked.scheme, dtype);
      // The types that are asked for do not matter.
      GgufModelTypes types;
      types.linear = GgmlType::kQ4_1;
      const auto report = Write(*quantized, types);
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_THAT(report->kept_f16, IsEmpty());
      ExpectLayers(*quantized, *Open(), repacked.type);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyTest,
                         testing::Values("llama", "mistral", "qwen2", "qwen3",
                                         "gpt2", "mpt"),
                         [](const auto& info) { return info.param; });

// Blocks of 256 go into the file as the very bytes, q and k in its order.
TEST_F(WriteGgufCodesTest, BlocksOf256) {
  const TestModel model =
      MakeTestModel("llama", R"({"hidden_size": 256, "head_dim": 64,
                                 "intermediate_size": 40})");
  for (const GgmlType type :
       {GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    SCOPED_TRACE(FindGgmlType(type)->name);
    QuantizeOptions options;
    options.scheme.ggml = type;
    const auto quantized = Quantize(model, options);
    ASSERT_TRUE(Write(*quantized).ok());
    const auto file = Open();
    const auto stored = [&](const std::string& module) {
      const TensorView view = *quantized->checkpoint().Get(
          "model.layers.1." + module + ".weight_blocks");
      return std::vector<uint8_t>(view.bytes.begin(), view.bytes.end());
    };
    const auto in_file = [&](const std::string& name) {
      const GgufTensorInfo& info = *file->Find(name);
      EXPECT_EQ(info.type, type) << name;
      return file->Bytes(info);
    };
    EXPECT_EQ(in_file("blk.1.ffn_up.weight"), stored("mlp.up_proj"));
    std::vector<uint8_t> q = stored("self_attn.q_proj");
    const int64_t row_bytes = FindGgmlType(type)->block_bytes;
    InterleaveHeads(64, row_bytes, absl::MakeSpan(q));
    EXPECT_EQ(in_file("blk.1.attn_q.weight"), q);
    // Rows of 40: kept in the folder.
    EXPECT_EQ(file->Find("blk.0.ffn_down.weight")->type, GgmlType::kF16);
  }
}

// A quantized lm_head keeps its codes, and a layer that was kept is F16.
TEST_F(WriteGgufCodesTest, MixedModels) {
  QuantizeOptions options;
  options.scheme = *ParseQuantScheme("int4_g32");
  options.lm_head = *ParseQuantScheme("int8");
  options.ignore = "layers\\.0\\.mlp\\.up_proj";
  const auto quantized = Quantize(MakeModel("llama"), options);
  const auto report = Write(*quantized);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->kept_f16, testing::ElementsAre("blk.0.ffn_up.weight"));
  const auto file = Open();
  const GgufTensorInfo* info = file->Find("output.weight");
  EXPECT_EQ(info->type, GgmlType::kQ8_0);
  const LinearWeights weights = *quantized->LoadLinear(-1, LinearRole::kLmHead);
  const Matrix<float>& expected = weights.weight;
  std::vector<float> values(expected.span().size());
  ASSERT_TRUE(file->ReadRows(*info, 0, absl::MakeSpan(values)).ok());
  EXPECT_TRUE(std::equal(values.begin(), values.end(), expected.data()));
  EXPECT_EQ(file->Find("blk.1.ffn_up.weight")->type, GgmlType::kQ4_0);
}

TEST_F(WriteGgufCodesTest, RefusesCodesThatNoBlockHolds) {
  struct Case {
    const char* scheme;
    bool symmetric;
    const char* part;
  };
  const Case cases[] = {
      {"int4_g32", false,
       "q_proj: no block of ggml has zero points; "
       "compressed-tensors can hold it, and requantize rounds the layer again"},
      {"int4_g24", true,
       "groups of 24 are not whole blocks of 32; compressed-tensors can"},
      {"w8a8", true, "the layer's inputs become 8-bit codes"},
      {"nf4", true,
       "no block of ggml has the values of nf4; requantize rounds"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.scheme);
    QuantizeOptions options;
    options.scheme = *ParseQuantScheme(c.scheme);
    options.scheme.symmetric = c.symmetric;
    const auto quantized = Quantize(MakeModel("llama"), options);
    const absl::Status status = Write(*quantized).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(HasSubstr(c.part),
                               HasSubstr(quantized->checkpoint().folder())));
    EXPECT_THAT(ListTestFolder(folder_), IsEmpty());

    GgufModelTypes types;
    types.linear = GgmlType::kF32;
    types.requantize = true;
    ASSERT_TRUE(Write(*quantized, types).ok());
    ExpectLayers(*quantized, *Open(), GgmlType::kF32);
    ASSERT_EQ(std::remove(path_.c_str()), 0);
  }
}

}  // namespace
}  // namespace qeff
