// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/synth.h"

#include <cmath>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

std::string Write(const Json& config, SynthOptions options) {
  const std::string folder = MakeTestFolder() + "/model";
  const auto pool = *CreateThreadPool(2);
  const absl::Status status =
      WriteSynthCheckpoint(config, options, folder, pool.get());
  EXPECT_TRUE(status.ok()) << status;
  return folder;
}

std::shared_ptr<const Transformer> Load(const std::string& folder) {
  const auto model = Transformer::Load(*Checkpoint::Open(folder));
  EXPECT_TRUE(model.ok()) << model.status();
  return *model;
}

TEST(SynthTest, EveryTinyShapeLoads) {
  for (const std::string& name : KnownShapeNames()) {
    if (name.substr(0, 4) != "tiny") continue;
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      SynthOptions options;
      options.dtype = dtype;
      const std::string folder = Write(*KnownShapeConfig(name), options);
      const auto model = Load(folder);
      EXPECT_EQ(model->spec().bos_token_id, 1);
      EXPECT_EQ(model->checkpoint().tensors()[0].dtype, dtype);
      EXPECT_EQ((*Tokenizer::FromFolder(folder))->vocab_size(), 259);
    }
  }
}

TEST(SynthTest, CancellingLeavesNothing) {
  const std::string parent = MakeTestFolder();
  const auto pool = *CreateThreadPool(2);
  const absl::Status status =
      WriteSynthCheckpoint(*KnownShapeConfig("tiny"), {}, parent + "/model",
                           pool.get(), [](int64_t) { return false; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(ListTestFolder(parent).empty());
}

TEST(SynthTest, WeightsHaveTheVarianceTheyShould) {
  SynthOptions options;
  options.dtype = DType::kF32;
  const auto model = Load(Write(*KnownShapeConfig("tiny"), options));
  const LinearWeights down = *model->LoadLinear(0, LinearRole::kDown);
  double squares = 0;
  for (float w : down.weight.span()) squares += static_cast<double>(w) * w;
  const double n = static_cast<double>(down.weight.span().size());
  // 11,008 values: five standard errors of the variance are 0.067 of it.
  EXPECT_NEAR(squares / n * 172, 1.0, 0.067);
}

TEST(SynthTest, OutliersDuplicateChannels) {
  SynthOptions options;
  options.dtype = DType::kF32;
  options.outliers = true;
  const auto model = Load(Write(*KnownShapeConfig("tiny"), options));
  const BlockWeights block = *model->LoadBlock(1);
  const Matrix<float> embedding = *model->LoadTokenEmbedding();
  float largest = 0;
  for (int64_t channel : {31, 63}) {
    for (int64_t i = 0; i < block.down.weight.cols(); ++i) {
      EXPECT_EQ(block.down.weight.row(channel)[i],
                block.down.weight.row(channel - 1)[i]);
    }
    for (int64_t i = 0; i < block.o.weight.cols(); ++i) {
      EXPECT_EQ(block.o.weight.row(channel)[i],
                block.o.weight.row(channel - 1)[i]);
    }
    EXPECT_EQ(block.ffn_norm.weight[channel],
              block.ffn_norm.weight[channel - 1]);
    EXPECT_EQ(embedding.row(7)[channel], embedding.row(7)[channel - 1]);
  }
  for (float w : block.up.weight.span()) {
    largest = std::max(largest, std::abs(w));
  }
  // Without outliers none is above 3.47 standard deviations.
  EXPECT_GT(largest * std::sqrt(64.0f), 4.0f);
}

TEST(SynthTest, Errors) {
  const auto pool = *CreateThreadPool(1);
  Json config = *KnownShapeConfig("tiny");
  config["vocab_size"] = 258;
  const std::string folder = MakeTestFolder() + "/model";
  EXPECT_THAT(WriteSynthCheckpoint(config, {}, folder, pool.get()).ToString(),
              HasSubstr("vocab_size: expected at least 259, found 258"));
  EXPECT_THAT(KnownShapeConfig("none").status().ToString(),
              HasSubstr("llama-1b, llama-7b"));
  SynthOptions options;
  options.dtype = DType::kI8;
  EXPECT_THAT(WriteSynthCheckpoint(*KnownShapeConfig("tiny"), options, folder,
                                   pool.get())
                  .ToString(),
              HasSubstr("found I8"));
}

TEST(KnownShapesTest, Llama1b) {
  const Json config = *KnownShapeConfig("llama-1b");
  EXPECT_EQ(config["hidden_size"], 2048);
  EXPECT_EQ(config[NumLayersKey(config)], 22);
  EXPECT_EQ(config["intermediate_size"], 5632);
  EXPECT_EQ(config["num_key_value_heads"], 4);
}

}  // namespace
}  // namespace qeff
