// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/evaluate.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

// Logits are a fixed function of position and vocabulary entry.
class FormulaModel : public LogitsModel {
 public:
  using Formula = std::function<float(int64_t position, int64_t token)>;
  FormulaModel(int64_t vocab, Formula formula)
      : vocab_(vocab), formula_(std::move(formula)) {}

  int64_t vocab_size() const override { return vocab_; }
  absl::Status Run(absl::Span<const std::vector<int32_t>> sequences) override {
    ++runs_;
    num_sequences_ = static_cast<int64_t>(sequences.size());
    return absl::OkStatus();
  }
  absl::StatusOr<Matrix<float>> Logits(int64_t sequence, int64_t begin,
                                       int64_t rows) override {
    EXPECT_LT(sequence, num_sequences_);
    Matrix<float> logits(rows, vocab_);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t v = 0; v < vocab_; ++v) {
        logits.row(r)[v] = formula_(begin + r, v);
      }
    }
    return logits;
  }
  int runs() const { return runs_; }

 private:
  int64_t vocab_;
  Formula formula_;
  int runs_ = 0;
  int64_t num_sequences_ = 0;
};

std::vector<ScoredWindow> Windows(int count, int length) {
  std::vector<ScoredWindow> windows;
  for (int w = 0; w < count; ++w) {
    ScoredWindow window;
    for (int i = 0; i < length; ++i) window.tokens.push_back((i + w) % 4);
    window.first_scored = 1;
    windows.push_back(std::move(window));
  }
  return windows;
}

class EvaluateTest : public ::testing::Test {
 protected:
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(EvaluateTest, UniformModelHasThePerplexityOfItsVocabulary) {
  FormulaModel model(4, [](int64_t, int64_t) { return 3.0f; });
  const auto result = Evaluate(&model, nullptr, Windows(3, 200), pool_.get());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->tokens, 3 * 199);
  EXPECT_NEAR(result->perplexity(), 4.0, 1e-12);
  EXPECT_FALSE(result->divergence.has_value());
}

TEST_F(EvaluateTest, DivergenceOfAModelFromItselfIsZero) {
  const auto formula = [](int64_t i, int64_t v) {
    return static_cast<float>(std::sin(static_cast<double>(i * 7 + v)));
  };
  FormulaModel model(4, formula), reference(4, formula);
  const auto result = Evaluate(&model, &reference, Windows(2, 50), pool_.get());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->divergence->kl_mean, 0.0);
  EXPECT_EQ(result->divergence->kl_p99, 0.0);
  EXPECT_EQ(result->divergence->top1_agreement, 1.0);
  EXPECT_EQ(result->divergence->rms_dp, 0.0);
}

TEST_F(EvaluateTest, DivergenceByHand) {
  // p = (1/2, 1/2), q = (1/4, 3/4): KL = ln 2 - ln(3)/2, always.
  FormulaModel model(
      2, [](int64_t, int64_t v) { return v == 0 ? 0.0f : std::log(3.0f); });
  FormulaModel reference(2, [](int64_t, int64_t) { return 0.0f; });
  ScoredWindow window;
  window.tokens = {0, 1, 0, 1, 0};
  window.first_scored = 1;
  const auto result = Evaluate(&model, &reference, {window}, pool_.get());
  ASSERT_TRUE(result.ok());
  const double kl = std::log(2.0) - std::log(3.0) / 2;
  EXPECT_NEAR(result->divergence->kl_mean, kl, 1e-7);
  EXPECT_NEAR(result->divergence->kl_p99, kl, 1e-7);
  EXPECT_EQ(result->divergence->top1_agreement, 0.0);
  EXPECT_NEAR(result->divergence->rms_dp, 0.25, 1e-7);
  EXPECT_NEAR(result->nll, -2 * std::log(0.75) - 2 * std::log(0.25), 1e-6);
}

TEST_F(EvaluateTest, PercentileIsTheNearestRank) {
  // Of 200 tokens, those after positions 197 and up differ: 3 of 200, so the
  // 198th smallest value, the 99th percentile, is the first of them.
  const auto boost = [](int64_t i, int64_t v) {
    return i >= 197 && v == 0 ? 1.0f : 0.0f;
  };
  FormulaModel model(4, boost);
  FormulaModel reference(4, [](int64_t, int64_t) { return 0.0f; });
  const auto result =
      Evaluate(&model, &reference, Windows(1, 201), pool_.get());
  ASSERT_TRUE(result.ok());
  // KL of uniform from softmax(1, 0, 0, 0).
  const double kl = std::log((std::exp(1.0) + 3) / 4) - 0.25;
  EXPECT_NEAR(result->divergence->kl_p99, kl, 1e-7);
  EXPECT_NEAR(result->divergence->kl_mean, kl * 3 / 200, 1e-9);
}

TEST_F(EvaluateTest, BatchesByTokens) {
  FormulaModel model(4, [](int64_t, int64_t) { return 0.0f; });
  EvaluateOptions options;
  options.tokens_per_batch = 100;
  std::vector<int64_t> progress;
  options.progress = [&](int64_t done) { progress.push_back(done); };
  ASSERT_TRUE(
      Evaluate(&model, nullptr, Windows(5, 50), pool_.get(), options).ok());
  EXPECT_EQ(model.runs(), 3);
  EXPECT_THAT(progress, ::testing::ElementsAre(2, 4, 5));
}

TEST_F(EvaluateTest, Errors) {
  FormulaModel small(3, [](int64_t, int64_t) { return 0.0f; });
  FormulaModel model(4, [](int64_t, int64_t) { return 0.0f; });
  EXPECT_THAT(
      Evaluate(&model, &small, Windows(1, 9), pool_.get()).status().ToString(),
      HasSubstr("vocabularies differ"));
  EXPECT_THAT(
      Evaluate(&small, nullptr, Windows(1, 9), pool_.get()).status().ToString(),
      HasSubstr("token id 3 is outside the vocabulary of 3"));
  for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                    std::numeric_limits<float>::infinity()}) {
    FormulaModel broken(4, [bad](int64_t i, int64_t v) {
      return i == 3 && v == 2 ? bad : 0.0f;
    });
    const absl::Status status =
        Evaluate(&broken, nullptr, Windows(1, 9), pool_.get()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("window 0: token 4"));
  }
}

}  // namespace
}  // namespace qeff
