// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/write_gguf_model.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/gguf_header.h"
#include "qeff/io/io_testutil.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/output_file.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TokenizerTables SomeTokenizer() {
  TokenizerTables tables;
  tables.tokens.push_back("a");
  tables.kinds.push_back(TokenKind::kNormal);
  tables.byte_level = true;
  PreTokenizerOp op;
  op.kind = PreTokenizerOp::Kind::kPattern;
  tables.pre_tokenizer = {op};
  return tables;
}

GgufModelTypes AllOf(GgmlType type) { return {type, type, type}; }

// A written file and its header.
struct Written {
  GgufModelReport report;
  std::string bytes;
  GgufHeader header;

  const GgufTensorInfo& Info(const std::string& name) const {
    for (const GgufTensorInfo& tensor : header.tensors) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << name;
    return header.tensors[0];
  }
  std::vector<float> Floats(const std::string& name) const {
    const GgufTensorInfo& info = Info(name);
    EXPECT_EQ(info.type, GgmlType::kF32);
    std::vector<float> values(info.size_bytes / sizeof(float));
    std::memcpy(values.data(), bytes.data() + info.begin_bytes,
                info.size_bytes);
    return values;
  }
};

class WriteGgufModelTest : public testing::Test {
 protected:
  absl::StatusOr<GgufModelReport> TryWrite(const TestModel& model,
                                           const GgufModelTypes& types,
                                           int threads = 2) {
    const auto loaded = Transformer::Load(OpenTestModel(model));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    const auto pool = *CreateThreadPool(threads);
    return WriteGgufModel(**loaded, SomeTokenizer(), types, path_, pool.get());
  }

  Written Write(const TestModel& model, const GgufModelTypes& types,
                int threads = 2) {
    Written written;
    const auto report = TryWrite(model, types, threads);
    EXPECT_TRUE(report.ok()) << report.status();
    written.report = *report;
    written.bytes = ReadTestFile(path_);
    const auto header =
        ParseGgufHeader(AsBytes(written.bytes), written.bytes.size(), path_);
    EXPECT_TRUE(header.ok()) << header.status();
    written.header = *header;
    return written;
  }

  const std::string folder_ = MakeTestFolder();
  const std::string path_ = folder_ + "/model.gguf";
};

// The rows of `values` in the order of the file: pairs of each head.
std::vector<float> Interleaved(const std::vector<float>& values,
                               int64_t head_dim, size_t cols) {
  std::vector<float> result;
  const size_t head_rows = static_cast<size_t>(head_dim);
  for (size_t row = 0; row < values.size() / cols; ++row) {
    const size_t head = row / head_rows * head_rows;
    const size_t within = row % head_rows;
    const size_t from = head + within % 2 * (head_rows / 2) + within / 2;
    result.insert(result.end(), values.begin() + from * cols,
                  values.begin() + (from + 1) * cols);
  }
  return result;
}

TEST_F(WriteGgufModelTest, EveryTensorOfALlama) {
  TestModel model =
      MakeTestModel("llama", R"({"attention_bias": true, "mlp_bias": true})");
  const Written file = Write(model, AllOf(GgmlType::kF32));
  EXPECT_EQ(file.report.file_bytes, file.bytes.size());
  EXPECT_THAT(file.report.kept_f16, IsEmpty());
  const auto values = [&](const std::string& name) {
    return model.Find(name)->values;
  };
  EXPECT_EQ(file.Floats("token_embd.weight"),
            values("model.embed_tokens.weight"));
  EXPECT_EQ(file.Floats("output.weight"), values("lm_head.weight"));
  EXPECT_EQ(file.Floats("output_norm.weight"), values("model.norm.weight"));
  const std::string from = "model.layers.1.";
  const int64_t head_dim = 4;
  const size_t hidden = 24;
  EXPECT_EQ(
      file.Floats("blk.1.attn_q.weight"),
      Interleaved(values(from + "self_attn.q_proj.weight"), head_dim, hidden));
  EXPECT_EQ(file.Floats("blk.1.attn_k.bias"),
            Interleaved(values(from + "self_attn.k_proj.bias"), head_dim, 1));
  EXPECT_NE(file.Floats("blk.1.attn_k.bias"),
            values(from + "self_attn.k_proj.bias"));
  EXPECT_EQ(file.Floats("blk.1.attn_v.weight"),
            values(from + "self_attn.v_proj.weight"));
  EXPECT_EQ(file.Floats("blk.1.attn_output.bias"),
            values(from + "self_attn.o_proj.bias"));
  EXPECT_EQ(file.Floats("blk.1.ffn_down.weight"),
            values(from + "mlp.down_proj.weight"));
  EXPECT_EQ(file.Floats("blk.1.attn_norm.weight"),
            values(from + "input_layernorm.weight"));
  EXPECT_EQ(file.Floats("blk.1.ffn_norm.weight"),
            values(from + "post_attention_layernorm.weight"));
}

TEST_F(WriteGgufModelTest, QwenKeepsItsOrder) {
  TestModel model = MakeTestModel("qwen3");
  const Written file = Write(model, AllOf(GgmlType::kF32));
  const std::string from = "model.layers.0.self_attn.";
  EXPECT_EQ(file.Floats("blk.0.attn_q.weight"),
            model.Find(from + "q_proj.weight")->values);
  EXPECT_EQ(file.Floats("blk.0.attn_q_norm.weight"),
            model.Find(from + "q_norm.weight")->values);
  EXPECT_EQ(file.Floats("blk.0.attn_k_norm.weight"),
            model.Find(from + "k_norm.weight")->values);
}

// A model whose matrices are whole blocks, but for ffn_down's.
TestModel BlockModel() {
  return MakeTestModel("llama",
                       R"({"hidden_size": 192, "head_dim": 32,
                           "intermediate_size": 40})");
}

TEST_F(WriteGgufModelTest, QuantizedTypes) {
  TestModel model = BlockModel();
  const Written file = Write(model, GgufModelTypes());
  EXPECT_THAT(file.report.kept_f16,
              ElementsAre("blk.0.ffn_down.weight", "blk.1.ffn_down.weight"));
  const GgufTensorInfo& up = file.Info("blk.0.ffn_up.weight");
  EXPECT_EQ(up.type, GgmlType::kQ4_0);
  std::vector<uint8_t> expected(up.size_bytes);
  EncodeQ4_0(model.Find("model.layers.0.mlp.up_proj.weight")->values,
             absl::MakeSpan(expected));
  EXPECT_EQ(file.bytes.substr(up.begin_bytes, up.size_bytes),
            std::string(expected.begin(), expected.end()));
  const GgufTensorInfo& output = file.Info("output.weight");
  EXPECT_EQ(output.type, GgmlType::kQ8_0);
  expected.resize(output.size_bytes);
  EncodeQ8_0(model.Find("lm_head.weight")->values, absl::MakeSpan(expected));
  EXPECT_EQ(file.bytes.substr(output.begin_bytes, output.size_bytes),
            std::string(expected.begin(), expected.end()));
}

TEST_F(WriteGgufModelTest, TheSameBytesForAnyNumberOfThreads) {
  const std::string one = Write(BlockModel(), GgufModelTypes(), 1).bytes;
  EXPECT_EQ(one, Write(BlockModel(), GgufModelTypes(), 4).bytes);
}

TEST_F(WriteGgufModelTest, RopeFactorsOfLlama3) {
  const TestModel model =
      MakeTestModel("llama", R"({"rope_theta": 500000.0, "rope_scaling": {
          "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 8}})");
  const std::vector<float> factors =
      Write(model, AllOf(GgmlType::kF32)).Floats("rope_freqs.weight");
  // Wavelengths 2 pi < 8 / 1 and 2 pi sqrt(500000) > 8: between and scaled.
  ASSERT_EQ(factors.size(), 2u);
  const double smooth = (8 / (2 * std::acos(-1.0)) - 1) / 3;
  EXPECT_NEAR(factors[0], 1 / ((1 - smooth) / 8 + smooth), 1e-5);
  EXPECT_EQ(factors[1], 8.0f);
}

TEST_F(WriteGgufModelTest, RefusesValuesThatDoNotFit) {
  TestModel model = BlockModel();
  model.Find("model.layers.1.self_attn.k_proj.weight")->values[192 * 3 + 5] =
      std::numeric_limits<float>::infinity();
  const absl::Status status = TryWrite(model, GgufModelTypes()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("blk.1.attn_k.weight: element [3, 5] is NaN, infinite "
                        "or too large for Q4_0"));
  EXPECT_THAT(ListTestFolder(folder_), IsEmpty());
}

TEST_F(WriteGgufModelTest, NamesTheFolderOfAModelThatItCannotWrite) {
  const absl::Status status =
      TryWrite(MakeTestModel("mpt"), GgufModelTypes()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(": GGUF of a mpt model: not supported"));
  EXPECT_THAT(ListTestFolder(folder_), IsEmpty());
}

// Blocks of a folder go into the file as they are, q and k in its order.
TEST_F(WriteGgufModelTest, StoredBlocks) {
  for (const GgmlType type : {GgmlType::kQ4_0, GgmlType::kQ8_0, GgmlType::kQ4_K,
                              GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    SCOPED_TRACE(FindGgmlType(type)->name);
    TestModel model =
        MakeTestModel("llama", R"({"hidden_size": 256, "head_dim": 64,
                     "intermediate_size": 40})");
    const std::string folder = MakeTestFolder() + "/blocks";
    const auto checkpoint = OpenTestModel(model);
    const auto pool = *CreateThreadPool(2);
    QuantizeOptions options;
    options.scheme.ggml = type;
    const auto plan =
        PlanQuantization(*checkpoint, *MapModel(*checkpoint), options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_TRUE(QuantizeCheckpoint(*checkpoint, *plan, folder, *pool).ok());
    const auto quantized = *Checkpoint::Open(folder);
    const auto loaded = *Transformer::Load(quantized);
    // The types that are asked for do not matter.
    const auto report = WriteGgufModel(
        *loaded, SomeTokenizer(), AllOf(GgmlType::kF32), path_, pool.get());
    ASSERT_TRUE(report.ok()) << report.status();
    const std::string bytes = ReadTestFile(path_);
    const auto header = ParseGgufHeader(AsBytes(bytes), bytes.size(), path_);
    ASSERT_TRUE(header.ok()) << header.status();
    const auto file_bytes = [&](const std::string& name) {
      for (const GgufTensorInfo& info : header->tensors) {
        if (info.name != name) continue;
        EXPECT_EQ(info.type, type) << name;
        return bytes.substr(info.begin_bytes, info.size_bytes);
      }
      return std::string();
    };
    const auto stored = [&](const std::string& module) {
      const TensorView view =
          *quantized->Get("model.layers.1." + module + ".weight_blocks");
      return std::string(view.bytes.begin(), view.bytes.end());
    };
    EXPECT_EQ(file_bytes("blk.1.attn_v.weight"), stored("self_attn.v_proj"));
    EXPECT_EQ(file_bytes("blk.1.ffn_up.weight"), stored("mlp.up_proj"));
    const std::string q = stored("self_attn.q_proj");
    const std::string in_file = file_bytes("blk.1.attn_q.weight");
    ASSERT_EQ(in_file.size(), q.size());
    const size_t row =
        static_cast<size_t>(256 / FindGgmlType(type)->block_elems *
                            FindGgmlType(type)->block_bytes);
    for (size_t r = 0; r < q.size() / row; ++r) {
      const size_t from = r / 64 * 64 + r % 2 * 32 + r % 64 / 2;
      ASSERT_EQ(in_file.substr(r * row, row), q.substr(from * row, row)) << r;
    }
    // Rows of 40: kept in the folder.
    for (const GgufTensorInfo& info : header->tensors) {
      if (info.name == "blk.0.ffn_down.weight") {
        EXPECT_EQ(info.type, GgmlType::kF16);
      }
    }
  }
}

}  // namespace
}  // namespace qeff
