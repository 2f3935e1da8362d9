// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/gradient_importance.h"

#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/eval/kl_divergence.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/transformer/transformer.h"

namespace qeff {
namespace {

constexpr float kStep = 0.01f;

class GradientImportanceTest : public ::testing::Test {
 protected:
  // Mean loss of one sequence of next tokens.
  double Loss(const TestModel& test, const std::vector<int32_t>& tokens) {
    const auto model = Transformer::Load(OpenTestModel(test)).value();
    const Matrix<float> logits = HostForward::Create(model, pool_.get())
                                     .value()
                                     ->LogitsOf(tokens)
                                     .value();
    double loss = 0;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      const absl::Span<const float> row(logits.row(static_cast<int64_t>(i)),
                                        static_cast<size_t>(logits.cols()));
      loss -= LogSoftmax(row).LogProbability(
          row[static_cast<size_t>(tokens[i + 1])]);
    }
    return loss / static_cast<double>(tokens.size() - 1);
  }

  // |d loss / d factor| of columns [first, first + count) of a tensor of
  // `cols` columns, by central differences, summed over sequences.
  double Slope(const TestModel& test, const std::string& name, int64_t cols,
               int64_t first, int64_t count) {
    double sum = 0;
    for (const std::vector<int32_t>& tokens : sample_.sequences) {
      double losses[2];
      for (const int sign : {0, 1}) {
        TestModel changed = test;
        std::vector<float>& values = changed.Find(name)->values;
        for (size_t i = 0; i < values.size(); ++i) {
          const int64_t col = static_cast<int64_t>(i) % cols;
          if (col < first || col >= first + count) continue;
          values[i] *= sign == 0 ? 1 - kStep : 1 + kStep;
        }
        losses[sign] = Loss(changed, tokens);
      }
      sum += std::abs(losses[1] - losses[0]) / (2 * kStep);
    }
    return sum;
  }

  std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
  TokenSample sample_ = {{TestTokens(20), TestTokens(13)}, 33};
};

TEST_F(GradientImportanceTest, IsTheSlopeOfTheLoss) {
  const TestModel test = MakeTestModel("llama");
  const auto model = Transformer::Load(OpenTestModel(test)).value();
  const auto found = MeasureGradients(model, sample_, "", {}, *pool_);
  ASSERT_TRUE(found.ok()) << found.status();
  // Losses are in float32, of about 3: 2e-7 over twice the step; and the
  // third derivative.
  const double tolerance = 1e-3;
  for (const size_t layer : {0u, 1u}) {
    const std::string block = "model.layers." + std::to_string(layer);
    for (const int64_t neuron : {0, 17}) {
      const double slope =
          Slope(test, block + ".mlp.down_proj.weight", 40, neuron, 1);
      EXPECT_NEAR(found->ffn[layer][static_cast<size_t>(neuron)], slope,
                  tolerance * (1 + slope));
    }
    const double slope =
        Slope(test, block + ".self_attn.o_proj.weight", 24, 8, 8);
    EXPECT_NEAR(found->kv_groups[layer][1], slope, tolerance * (1 + slope));
    EXPECT_GT(found->layers[layer], 0);
  }
  double hidden = 0;
  for (const char* name : {"model.layers.0.input_layernorm.weight",
                           "model.layers.0.post_attention_layernorm.weight",
                           "model.layers.1.input_layernorm.weight",
                           "model.layers.1.post_attention_layernorm.weight",
                           "model.norm.weight"}) {
    hidden += Slope(test, name, 24, 5, 1);
  }
  EXPECT_NEAR(found->hidden[5], hidden, tolerance * (5 + hidden));
}

TEST_F(GradientImportanceTest, IsTheSameForAnyNumberOfThreads) {
  const auto model =
      Transformer::Load(OpenTestModel(MakeTestModel("gpt2"))).value();
  const auto two = MeasureGradients(model, sample_, "", {}, *pool_);
  const auto one =
      MeasureGradients(model, sample_, "", {}, *CreateThreadPool(1).value());
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(one->ffn, two->ffn);
  EXPECT_EQ(one->kv_groups, two->kv_groups);
  EXPECT_EQ(one->hidden, two->hidden);
  EXPECT_EQ(one->layers, two->layers);
}

}  // namespace
}  // namespace qeff
