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
#include "qeff/export/export_testutil.h"
#include "qeff/io/gguf_header.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/output_file.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

// The rows of `values` [rows, cols], as columns.
std::vector<float> Transposed(const std::vector<float>& values, size_t cols) {
  const size_t rows = values.size() / cols;
  std::vector<float> result(values.size());
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) {
      result[c * rows + r] = values[r * cols + c];
    }
  }
  return result;
}

TEST_F(WriteGgufModelTest, EveryTensorOfAGpt2) {
  TestModel model = MakeTestModel("gpt2");
  const Written file = Write(model, AllOf(GgmlType::kF32));
  const auto values = [&](const std::string& name) {
    return model.Find("transformer." + name)->values;
  };
  const auto turned = [&](const std::string& name) {
    const TestTensor* tensor = model.Find("transformer." + name);
    return Transposed(tensor->values, static_cast<size_t>(tensor->shape[1]));
  };
  EXPECT_EQ(file.Floats("token_embd.weight"), values("wte.weight"));
  EXPECT_EQ(file.Floats("position_embd.weight"), values("wpe.weight"));
  EXPECT_EQ(file.Floats("output_norm.weight"), values("ln_f.weight"));
  EXPECT_EQ(file.Floats("output_norm.bias"), values("ln_f.bias"));
  EXPECT_EQ(file.Floats("blk.1.attn_qkv.weight"),
            turned("h.1.attn.c_attn.weight"));
  EXPECT_EQ(file.Floats("blk.1.attn_qkv.bias"), values("h.1.attn.c_attn.bias"));
  EXPECT_EQ(file.Floats("blk.1.attn_output.weight"),
            turned("h.1.attn.c_proj.weight"));
  EXPECT_EQ(file.Floats("blk.1.attn_norm.bias"), values("h.1.ln_1.bias"));
  EXPECT_EQ(file.Floats("blk.1.ffn_norm.weight"), values("h.1.ln_2.weight"));
  EXPECT_EQ(file.Floats("blk.1.ffn_norm.bias"), values("h.1.ln_2.bias"));
  EXPECT_EQ(file.Floats("blk.1.ffn_up.weight"), turned("h.1.mlp.c_fc.weight"));
  EXPECT_EQ(file.Floats("blk.1.ffn_down.weight"),
            turned("h.1.mlp.c_proj.weight"));
  EXPECT_EQ(file.Floats("blk.1.ffn_down.bias"), values("h.1.mlp.c_proj.bias"));
}

TEST_F(WriteGgufModelTest, EveryTensorOfAnMpt) {
  TestModel model = MakeTestModel("mpt");
  const Written file = Write(model, AllOf(GgmlType::kF32));
  const auto values = [&](const std::string& name) {
    return model.Find("transformer." + name)->values;
  };
  EXPECT_EQ(file.Floats("token_embd.weight"), values("wte.weight"));
  EXPECT_EQ(file.Floats("output_norm.weight"), values("norm_f.weight"));
  EXPECT_EQ(file.Floats("blk.1.attn_norm.weight"),
            values("blocks.1.norm_1.weight"));
  EXPECT_EQ(file.Floats("blk.1.attn_qkv.weight"),
            values("blocks.1.attn.Wqkv.weight"));
  EXPECT_EQ(file.Floats("blk.1.attn_output.weight"),
            values("blocks.1.attn.out_proj.weight"));
  EXPECT_EQ(file.Floats("blk.1.ffn_norm.weight"),
            values("blocks.1.norm_2.weight"));
  EXPECT_EQ(file.Floats("blk.1.ffn_up.weight"),
            values("blocks.1.ffn.up_proj.weight"));
  EXPECT_EQ(file.Floats("blk.1.ffn_down.weight"),
            values("blocks.1.ffn.down_proj.weight"));
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
  const TestModel model =
      MakeTestModel("mpt", R"({"attn_config": {"softmax_scale": 0.25}})");
  const absl::Status status = TryWrite(model, GgufModelTypes()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(": GGUF of a mpt model: llama.cpp would ignore the "
                        "attention scale"));
  EXPECT_THAT(ListTestFolder(folder_), IsEmpty());
}

}  // namespace
}  // namespace qeff
