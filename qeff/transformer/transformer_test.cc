// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/transformer.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/quantization_config.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const Transformer> Load(const TestModel& model,
                                        DType dtype = DType::kF32) {
  auto loaded = Transformer::Load(OpenTestModel(model, dtype));
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return *std::move(loaded);
}

void ExpectRefused(const TestModel& model, absl::StatusCode code,
                   const std::vector<std::string>& parts) {
  const absl::Status status = Transformer::Load(OpenTestModel(model)).status();
  EXPECT_EQ(status.code(), code) << status;
  for (const std::string& part : parts) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST(TransformerTest, HandsOutPlainMatrices) {
  TestModel model = MakeTestModel("llama", R"({"mlp_bias": true})");
  const auto transformer = Load(model);
  const BlockWeights block = *transformer->LoadBlock(1);
  EXPECT_EQ(block.q.weight.rows(), 24);
  EXPECT_EQ(block.k.weight.rows(), 12);
  EXPECT_EQ(block.down.weight.rows(), 24);
  EXPECT_EQ(block.down.weight.cols(), 40);
  EXPECT_TRUE(block.q.bias.empty());
  EXPECT_TRUE(block.q_norm.weight.empty());
  const TestTensor& down = *model.Find("model.layers.1.mlp.down_proj.weight");
  EXPECT_THAT(block.down.weight.span(),
              ::testing::ElementsAreArray(down.values));
  EXPECT_EQ(block.gate.bias,
            model.Find("model.layers.1.mlp.gate_proj.bias")->values);
  EXPECT_EQ(transformer->LoadFinalNorm()->weight,
            model.Find("model.norm.weight")->values);
  EXPECT_THAT(transformer->LoadTokenEmbedding()->span(),
              ::testing::ElementsAreArray(
                  model.Find("model.embed_tokens.weight")->values));
  const Matrix<float> rows = *transformer->LoadTokenEmbeddingRows(7, 2);
  EXPECT_EQ(rows.rows(), 2);
  EXPECT_EQ(rows.row(1)[3],
            model.Find("model.embed_tokens.weight")->values[8 * 24 + 3]);
  // Pages can be let go of and read again.
  transformer->ReleaseBlock(1);
  transformer->ReleaseBlock(-1);
  EXPECT_THAT(transformer->LoadLinear(1, LinearRole::kDown)->weight.span(),
              ::testing::ElementsAreArray(down.values));
}

TEST(TransformerTest, SplitsFusedMatrices) {
  TestModel model = MakeTestModel("mpt");
  const auto transformer = Load(model);
  const TestTensor& qkv = *model.Find("transformer.blocks.0.attn.Wqkv.weight");
  const BlockWeights block = *transformer->LoadBlock(0);
  for (int64_t i = 0; i < 24 * 24; ++i) {
    ASSERT_EQ(block.q.weight.data()[i], qkv.values[i]);
    ASSERT_EQ(block.k.weight.data()[i], qkv.values[24 * 24 + i]);
    ASSERT_EQ(block.v.weight.data()[i], qkv.values[2 * 24 * 24 + i]);
  }
  EXPECT_EQ(transformer->LinearShape(0, LinearRole::kQkv), Shape({72, 24}));
  EXPECT_EQ(transformer->LinearShape(0, LinearRole::kV), Shape({24, 24}));
  EXPECT_THAT(transformer->LoadLinear(0, LinearRole::kQkv)->weight.span(),
              ::testing::ElementsAreArray(qkv.values));
}

TEST(TransformerTest, TurnsTransposedMatrices) {
  TestModel model = MakeTestModel("gpt2");
  const auto transformer = Load(model);
  const TestTensor& qkv = *model.Find("transformer.h.1.attn.c_attn.weight");
  const TestTensor& bias = *model.Find("transformer.h.1.attn.c_attn.bias");
  const LinearWeights v = *transformer->LoadLinear(1, LinearRole::kV);
  for (int64_t out = 0; out < 24; ++out) {
    for (int64_t in = 0; in < 24; ++in) {
      ASSERT_EQ(v.weight.row(out)[in], qkv.values[in * 72 + 48 + out]);
    }
    EXPECT_EQ(v.bias[out], bias.values[48 + out]);
  }
  // A part of the rows.
  const LinearWeights part =
      *transformer->LoadLinearRows(1, LinearRole::kV, 5, 3);
  EXPECT_EQ(part.weight.rows(), 3);
  EXPECT_EQ(part.weight.row(1)[7], v.weight.row(6)[7]);
  EXPECT_EQ(part.bias[2], v.bias[7]);
  EXPECT_EQ(*transformer->LoadLinearBias(1, LinearRole::kV), v.bias);
}

TEST(TransformerTest, TiedLmHeadIsTheEmbedding) {
  TestModel model = MakeTestModel("llama", R"({"tie_word_embeddings": true})");
  EXPECT_THAT(Load(model)->LoadLinear(-1, LinearRole::kLmHead)->weight.span(),
              ::testing::ElementsAreArray(
                  model.Find("model.embed_tokens.weight")->values));
  model.Add("lm_head.weight", Shape({20, 24}));  // zeros, not to be used
  EXPECT_THAT(Load(model)->LoadLinear(-1, LinearRole::kLmHead)->weight.span(),
              ::testing::ElementsAreArray(
                  model.Find("model.embed_tokens.weight")->values));
}

TEST(TransformerTest, ReadsOtherTypes) {
  TestModel model = MakeTestModel("gpt2");
  for (float& value : model.Find("transformer.wpe.weight")->values) {
    value = 0.5f;
  }
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    const auto transformer = Load(model, dtype);
    EXPECT_EQ(transformer->LoadPositionEmbedding()->row(47)[23], 0.5f);
    const auto& exact = model.Find("transformer.h.0.mlp.c_fc.weight")->values;
    const LinearWeights up = *transformer->LoadLinear(0, LinearRole::kUp);
    // bf16 keeps 8 bits.
    EXPECT_NEAR(up.weight.row(0)[0], exact[0], std::abs(exact[0]) / 256);
  }
}

TEST(TransformerTest, RefusesAnotherNumberOfLayers) {
  TestModel model = MakeTestModel("llama");
  model.config["num_hidden_layers"] = 3;
  ExpectRefused(model, absl::StatusCode::kInvalidArgument,
                {"config.json: number of layers", "expected 2",
                 "model.layers.1", "found 3"});
  model.config["num_hidden_layers"] = 1;
  ExpectRefused(model, absl::StatusCode::kInvalidArgument,
                {"number of layers", "expected 2", "found 1"});
  model.tensors.clear();
  model.Add("model.layers.x.weight", Shape({1}));
  ExpectRefused(model, absl::StatusCode::kInvalidArgument,
                {"tensors named model.layers.0"});
  model.Add("model.layers.99999999999999999999.weight", Shape({1}));
  ExpectRefused(model, absl::StatusCode::kInvalidArgument,
                {"number of layers"});
}

TEST(TransformerTest, RefusesMissingAndMisshapenTensors) {
  const TestModel good = MakeTestModel("qwen3");
  for (const TestTensor& tensor : good.tensors) {
    TestModel missing = good;
    missing.Remove(tensor.name);
    const absl::Status status =
        Transformer::Load(OpenTestModel(missing)).status();
    EXPECT_FALSE(status.ok()) << tensor.name;
    // Without the embedding the prefix cannot be told.
    if (tensor.name != "model.embed_tokens.weight") {
      EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    }
    EXPECT_THAT(std::string(status.message()), HasSubstr(tensor.name));

    TestModel misshapen = good;
    misshapen.Remove(tensor.name);
    misshapen.Add(tensor.name, Shape({3, 5}));
    ExpectRefused(misshapen, absl::StatusCode::kInvalidArgument,
                  {tensor.name, "[3, 5]", tensor.shape.ToString()});
  }
  TestModel wrong_head_dim = good;
  wrong_head_dim.config["head_dim"] = 8;
  ExpectRefused(wrong_head_dim, absl::StatusCode::kInvalidArgument,
                {"_norm.weight", "[8]", "[4]"});
}

TEST(TransformerTest, RefusesLeftovers) {
  TestModel model = MakeTestModel("llama");
  model.Add("model.layers.0.self_attn.rotary_emb.inv_freq", Shape({2}));
  EXPECT_TRUE(Transformer::Load(OpenTestModel(model)).ok());
  model.Add("model.layers.0.self_attn.q_proj.bias", Shape({24}));
  model.Add("score.weight", Shape({1, 24}));
  ExpectRefused(model, absl::StatusCode::kInvalidArgument,
                {"2 tensors have no place in a llama model",
                 "model.layers.0.self_attn.q_proj.bias, score.weight"});

  TestModel gpt2 = MakeTestModel("gpt2", "{}", /*with_prefix=*/false);
  gpt2.Add("h.0.attn.bias", Shape({1, 1, 4, 4}));
  gpt2.Add("h.0.attn.masked_bias", Shape({}));
  EXPECT_TRUE(Transformer::Load(OpenTestModel(gpt2)).ok());
}

// Rewrites one linear layer of `model` as 8-bit codes with a scale a row; the
// code of an element is 128 + (row + column) % 7, the scale 1/64.
std::shared_ptr<const Checkpoint> OpenQuantized(const TestModel& model,
                                                const std::string& module) {
  std::vector<TensorInfo> infos;
  std::vector<std::vector<uint8_t>> bytes;
  const auto add = [&](const std::string& name, DType dtype, const Shape& shape,
                       const void* data) {
    infos.push_back({name, dtype, shape});
    const auto* begin = static_cast<const uint8_t*>(data);
    bytes.emplace_back(begin, begin + infos.back().size_bytes());
  };
  for (const TestTensor& tensor : model.tensors) {
    if (tensor.name != module + ".weight") {
      add(tensor.name, DType::kF32, tensor.shape, tensor.values.data());
      continue;
    }
    const int64_t out = tensor.shape[0], in = tensor.shape[1];
    std::vector<uint8_t> codes;
    for (int64_t i = 0; i < out * in; ++i) {
      codes.push_back(static_cast<uint8_t>(128 + (i / in + i % in) % 7));
    }
    const std::vector<float> scales(static_cast<size_t>(out), 1.0f / 64);
    const int64_t shape[] = {out, in};
    add(module + ".weight_packed", DType::kI32, Shape({out, in / 4}),
        codes.data());
    add(module + ".weight_scale", DType::kF32, Shape({out, 1}), scales.data());
    add(module + ".weight_shape", DType::kI64, Shape({2}), shape);
  }
  WeightQuantization weights;
  weights.bits = 8;
  weights.strategy = QuantStrategy::kChannel;
  Json config = model.config;
  config["quantization_config"] =
      QuantizationConfig::Create(QuantizedLayout::kCompressedTensors,
                                 {{{module}, weights}}, {"lm_head"})
          ->ToJson();
  const std::string folder = MakeTestFolder() + "/model";
  const auto writer = *CheckpointWriter::Create(folder, infos);
  for (size_t i = 0; i < infos.size(); ++i) {
    EXPECT_TRUE(writer->Write(infos[i].name, 0, bytes[i]).ok());
  }
  EXPECT_TRUE(writer->Commit(config, {}).ok());
  return *Checkpoint::Open(folder);
}

TEST(TransformerTest, Dequantizes) {
  const TestModel model = MakeTestModel("llama");
  const std::string module = "model.layers.1.mlp.down_proj";
  const auto transformer = Transformer::Load(OpenQuantized(model, module));
  ASSERT_TRUE(transformer.ok()) << transformer.status();
  EXPECT_TRUE((*transformer)->quantization().has_value());
  const LinearWeights down = *(*transformer)->LoadLinear(1, LinearRole::kDown);
  for (int64_t r = 0; r < 24; ++r) {
    for (int64_t c = 0; c < 40; ++c) {
      ASSERT_EQ(down.weight.row(r)[c], static_cast<float>((r + c) % 7) / 64);
    }
  }
  EXPECT_EQ((*transformer)
                ->LoadLinearRows(1, LinearRole::kDown, 20, 2)
                ->weight.row(1)[3],
            down.weight.row(21)[3]);
  EXPECT_TRUE((*transformer)->LoadLinear(0, LinearRole::kDown).ok());
  (*transformer)->ReleaseBlock(1);
}

TEST(TransformerTest, RefusesQuantizedLayersThatDoNotFit) {
  TestModel model = MakeTestModel("llama");
  const std::string module = "model.layers.1.mlp.down_proj";
  model.Find(module + ".weight")->shape = Shape({12, 80});
  EXPECT_THAT(
      std::string(
          Transformer::Load(OpenQuantized(model, module)).status().message()),
      ::testing::AllOf(HasSubstr(module), HasSubstr("[24, 40]"),
                       HasSubstr("[12, 80]")));
  // config.json promises codes that are not there.
  TestModel plain = MakeTestModel("llama");
  plain.config = OpenQuantized(plain, module)->config();
  ExpectRefused(plain, absl::StatusCode::kNotFound, {module});
  TestModel unknown = MakeTestModel("llama");
  unknown.config["quantization_config"] = {{"quant_method", "fp8"}};
  ExpectRefused(unknown, absl::StatusCode::kUnimplemented,
                {"quantization_config", "fp8"});
}

TEST(TransformerTest, EmbedsTokensAndPositions) {
  TestModel model = MakeTestModel("gpt2");
  const auto transformer = Load(model);
  Matrix<float> x(2, 24);
  ASSERT_TRUE(transformer->Embed({19, 3}, x.view()).ok());
  EXPECT_EQ(x.row(1)[5],
            model.Find("transformer.wte.weight")->values[3 * 24 + 5] +
                model.Find("transformer.wpe.weight")->values[24 + 5]);
}

TEST(TransformerTest, ChecksTokens) {
  const auto transformer = Load(MakeTestModel("gpt2"));
  EXPECT_TRUE(transformer->CheckTokens({0, 19}).ok());
  EXPECT_EQ(transformer->CheckTokens({0, 20}).message(),
            "token at index 1: expected 0 to 19, found 20");
  EXPECT_EQ(transformer->CheckTokens({-1}).message(),
            "token at index 0: expected 0 to 19, found -1");
  EXPECT_THAT(std::string(transformer->CheckTokens({}).message()),
              HasSubstr("empty"));
  EXPECT_THAT(std::string(transformer->CheckTokens(TestTokens(49)).message()),
              HasSubstr("at most 48"));
}

}  // namespace
}  // namespace qeff
