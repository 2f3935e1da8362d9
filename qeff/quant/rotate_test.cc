// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/rotate.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quant_testutil.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/synth.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const Transformer> Open(const std::string& folder) {
  return Transformer::Load(Checkpoint::Open(folder).value()).value();
}

// `config` with random weights, outliers among them.
std::shared_ptr<const Transformer> Synth(const Json& config,
                                         DType dtype = DType::kF32) {
  const std::string folder = MakeTestFolder() + "/model";
  SynthOptions options;
  options.dtype = dtype;
  options.outliers = true;
  const auto pool = CreateThreadPool(1).value();
  const absl::Status status =
      WriteSynthCheckpoint(config, options, folder, pool.get());
  EXPECT_TRUE(status.ok()) << status;
  return Open(folder);
}

Json ShapeConfig(const std::string& shape, const Json& changes = {}) {
  Json config = KnownShapeConfig(shape).value();
  if (!changes.is_null()) config.update(changes);
  return config;
}

std::vector<float> Values(const Checkpoint& checkpoint,
                          const std::string& name) {
  const TensorView view = checkpoint.Get(name).value();
  std::vector<float> values(static_cast<size_t>(view.num_elements()));
  ConvertToFloat(view.dtype, view.bytes, absl::MakeSpan(values));
  return values;
}

class RotateTest : public ::testing::Test {
 protected:
  std::shared_ptr<const Transformer> Rotate(const Transformer& model,
                                            const RotateOptions& options = {}) {
    const auto plan = PlanRotation(model, options);
    EXPECT_TRUE(plan.ok()) << plan.status();
    const std::string output = MakeTestFolder() + "/rotated";
    const absl::Status status = RotateModel(model, *plan, output, *pool_);
    EXPECT_TRUE(status.ok()) << status;
    return Open(output);
  }

  // Relative to the size of the logits of `model`.
  double LogitsError(const std::shared_ptr<const Transformer>& model,
                     const std::shared_ptr<const Transformer>& rotated) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < 40; ++i) tokens.push_back((i * 37 + 5) % 300);
    const auto logits = [&](const std::shared_ptr<const Transformer>& of) {
      return HostForward::Create(of, pool_.get())
          .value()
          ->LogitsOf(tokens)
          .value();
    };
    const Matrix<float> expected = logits(model), found = logits(rotated);
    double difference = 0, size = 0;
    for (size_t i = 0; i < expected.span().size(); ++i) {
      const double d = double{found.data()[i]} - expected.data()[i];
      difference += d * d;
      size += double{expected.data()[i]} * expected.data()[i];
    }
    return std::sqrt(difference / size);
  }

  std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
};

TEST_F(RotateTest, LeavesLogitsAsTheyAre) {
  const std::vector<Json> configs = {
      ShapeConfig("tiny"), ShapeConfig("tiny-mistral"),
      ShapeConfig("tiny-qwen2"),  // biases of q, k and v; tied
      ShapeConfig("tiny-qwen3"),  // norms of q and k
      // Biases everywhere.
      ShapeConfig("tiny", {{"attention_bias", true}, {"mlp_bias", true}}),
      // Sizes that are no powers of two, and one without a Hadamard matrix.
      ShapeConfig("tiny", {{"hidden_size", 72}, {"head_dim", 24}}),
      ShapeConfig("tiny", {{"hidden_size", 52}, {"head_dim", 10}}),
      ShapeConfig("tiny",
                  {{"num_key_value_heads", 4}, {"tie_word_embeddings", true}})};
  for (const Json& config : configs) {
    SCOPED_TRACE(config.dump());
    const auto model = Synth(config);
    const auto rotated = Rotate(*model, {/*seed=*/3, {}});
    // Each of some 20 products is off by 1e-7 of its size, in both models.
    EXPECT_LT(LogitsError(model, rotated), 1e-5);
    EXPECT_FALSE(rotated->spec().tied_lm_head);
    const ModelMap& map = model->map();
    for (const std::string& norm :
         {map.final_norm.weight, map.blocks[1].ffn_norm.weight}) {
      for (const float w : Values(rotated->checkpoint(), norm)) {
        ASSERT_EQ(w, 1.0f);
      }
    }
    for (const LinearModule& linear : map.blocks[1].linears) {
      EXPECT_NE(Values(rotated->checkpoint(), linear.module + ".weight"),
                Values(model->checkpoint(), linear.module + ".weight"))
          << linear.module;
    }
  }
}

// Weights with outliers, rounded to 4 bits with one scale a row.
TEST_F(RotateTest, LessIsLostWhenItIsRounded) {
  const auto model = Synth(ShapeConfig("tiny", {{"intermediate_size", 128}}));
  const auto rounded = [&](const std::shared_ptr<const Transformer>& of) {
    const std::string output = MakeTestFolder() + "/rounded";
    const QuantizePlan plan =
        PlanQuantization(of->checkpoint(), of->map(), OptionsFor("int4"))
            .value();
    EXPECT_TRUE(
        QuantizeCheckpoint(of->checkpoint(), plan, output, *pool_).ok());
    return LogitsError(model, Open(output));
  };
  EXPECT_LT(rounded(Rotate(*model)), 0.8 * rounded(model));
}

TEST_F(RotateTest, TypesAndBytes) {
  const auto model = Synth(ShapeConfig("tiny-qwen2"), DType::kBF16);
  RotateOptions options;
  const std::string exact = "model.layers.0.mlp.down_proj";
  options.exact_modules = {exact};
  const RotationPlan plan = PlanRotation(*model, options).value();
  EXPECT_TRUE(plan.unties_lm_head);
  EXPECT_EQ(plan.lm_head_bytes, 320u * 64 * 2);
  EXPECT_EQ(plan.Bytes(), model->checkpoint().weight_bytes() +
                              plan.lm_head_bytes + 2 * 64 * 128);
  EXPECT_THAT(FormatRotation(plan), HasSubstr("0.041 MB more"));
  const auto rotated = Rotate(*model, options);
  for (const TensorInfo& info : rotated->checkpoint().tensors()) {
    EXPECT_EQ(info.dtype,
              info.name == exact + ".weight" ? DType::kF32 : DType::kBF16)
        << info.name;
  }
  EXPECT_EQ(rotated->checkpoint().other_files(),
            model->checkpoint().other_files());
  // Rounding everything to BF16 costs what BF16 costs.
  EXPECT_LT(LogitsError(model, rotated), 0.05);
}

TEST_F(RotateTest, BytesDependOnTheArgumentsAlone) {
  const auto model = Synth(ShapeConfig("tiny"));
  const auto bytes = [&](uint64_t seed, int threads) {
    const auto pool = CreateThreadPool(threads).value();
    const std::string output = MakeTestFolder() + "/rotated";
    const RotationPlan plan = PlanRotation(*model, {seed, {}}).value();
    EXPECT_TRUE(RotateModel(*model, plan, output, *pool).ok());
    return ReadTestFile(output + "/model.safetensors");
  };
  EXPECT_EQ(bytes(1, 1), bytes(1, 3));
  EXPECT_NE(bytes(1, 1), bytes(2, 1));
  const auto marker = [&](const RotateOptions& options) {
    return PlanRotation(*model, options)->config[kRotationKey];
  };
  EXPECT_EQ(marker({1, {}}), marker({1, {}}));
  EXPECT_NE(marker({1, {}}), marker({2, {}}));
  EXPECT_NE(marker({1, {}}),
            PlanRotation(*Synth(ShapeConfig("tiny-mistral")), {1, {}})
                ->config[kRotationKey]);
}

TEST_F(RotateTest, WhatCannotBeRotated) {
  for (const std::string shape : {"tiny-gpt2", "tiny-mpt"}) {
    const auto plan = PlanRotation(*Open(SynthModel(shape)), {});
    EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(plan.status().ToString(),
                HasSubstr("rotate: expected an RMSNorm without bias, found "
                          "LayerNorm"));
  }
  const TestModel model(SynthModel("tiny"));
  const std::string output = MakeTestFolder() + "/quantized";
  ASSERT_TRUE(QuantizeCheckpoint(*model.checkpoint,
                                 model.Plan(OptionsFor("int8")).value(), output,
                                 *pool_)
                  .ok());
  EXPECT_THAT(PlanRotation(*Open(output), {}).status().ToString(),
              HasSubstr("the model is quantized already"));
}

TEST_F(RotateTest, NotFiniteOrEnded) {
  const std::string folder = SynthModel("tiny", DType::kF32);
  std::string bytes = ReadTestFile(folder + "/model.safetensors");
  {
    const auto model = Open(folder);
    const TensorView view =
        model->checkpoint().Get("model.layers.1.mlp.down_proj.weight").value();
    const std::string values(reinterpret_cast<const char*>(view.bytes.data()),
                             view.bytes.size());
    const float nan = NAN;
    bytes.replace(bytes.find(values) + 4 * (172 * 3 + 7), sizeof(nan),
                  reinterpret_cast<const char*>(&nan), sizeof(nan));
  }
  WriteTestFile(folder + "/model.safetensors", bytes);
  const auto model = Open(folder);
  const RotationPlan plan = PlanRotation(*model, {}).value();
  const std::string parent = MakeTestFolder();
  const absl::Status status =
      RotateModel(*model, plan, parent + "/rotated", *pool_);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.ToString(),
              HasSubstr("tensor model.layers.1.mlp.down_proj.weight: element "
                        "[3, 7] is NaN"));
  RotateRunOptions options;
  uint64_t total = 0;
  options.progress = [&](uint64_t, uint64_t all) {
    total = all;
    return absl::CancelledError("enough");
  };
  EXPECT_EQ(RotateModel(*model, plan, parent + "/rotated", *pool_, options),
            absl::CancelledError("enough"));
  EXPECT_EQ(total, plan.Bytes());
  EXPECT_TRUE(ListTestFolder(parent).empty());
}

}  // namespace
}  // namespace qeff
