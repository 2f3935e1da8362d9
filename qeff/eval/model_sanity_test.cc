// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/model_sanity.h"

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

using Sequences = std::vector<std::vector<int32_t>>;

constexpr int kVocab = 20;  // of MakeTestModel

std::shared_ptr<const Transformer> Load(const TestModel& model) {
  return *Transformer::Load(OpenTestModel(model));
}

ModelSanity Measure(const TestModel& model, const Sequences& sequences,
                    int threads = 2) {
  const auto pool = *CreateThreadPool(threads);
  const auto sanity = MeasureSanity(Load(model), sequences, pool.get());
  EXPECT_TRUE(sanity.ok()) << sanity.status();
  return sanity.value_or(ModelSanity());
}

// exp of the mean loss of `scored` tokens of each sequence, by other code.
double ReferencePerplexity(const TestModel& model, const Sequences& sequences) {
  double nll = 0;
  int count = 0;
  for (const std::vector<int32_t>& sequence : sequences) {
    if (sequence.empty()) continue;
    const Matrix<double> logits = ReferenceLogits(model, sequence);
    for (size_t i = 1; i < sequence.size(); ++i) {
      const double* row = logits.row(static_cast<int64_t>(i) - 1);
      double sum = 0;
      for (int v = 0; v < kVocab; ++v) sum += std::exp(row[v]);
      nll += std::log(sum) - row[sequence[i]];
      ++count;
    }
  }
  return std::exp(nll / count);
}

TEST(ModelSanityTest, PerplexityOfAllTokensButTheFirstOfEachSequence) {
  const TestModel model = MakeTestModel("llama");
  const Sequences sequences = {TestTokens(30), {}, {3}, TestTokens(12)};
  const ModelSanity sanity = Measure(model, sequences);
  EXPECT_EQ(sanity.tokens, 29 + 11);
  EXPECT_EQ(sanity.vocab_size, kVocab);
  const double expected = ReferencePerplexity(model, sequences);
  EXPECT_NEAR(sanity.perplexity, expected, 1e-4 * expected);
  EXPECT_EQ(Measure(model, sequences, 1).perplexity, sanity.perplexity);
}

TEST(ModelSanityTest, NoMoreThan256TokensAreScored) {
  const TestModel model = MakeTestModel("llama");
  const Sequences some(7, TestTokens(40));
  Sequences expected(6, TestTokens(40));
  expected.push_back(TestTokens(1 + 256 - 6 * 39));
  const Sequences many(5000, TestTokens(40));
  EXPECT_EQ(Measure(model, some).tokens, 256);
  EXPECT_EQ(Measure(model, many).tokens, 256);
  EXPECT_EQ(Measure(model, many).perplexity,
            Measure(model, expected).perplexity);
}

TEST(ModelSanityTest, RandomWeightsAreNotSane) {
  for (const char* family : {"llama", "gpt2", "mpt"}) {
    const ModelSanity sanity =
        Measure(MakeTestModel(family), Sequences(4, TestTokens(40)));
    EXPECT_FALSE(sanity.sane()) << family << ' ' << sanity.perplexity;
  }
}

TEST(ModelSanityTest, WeightsThatAreNotFiniteAreNotSane) {
  TestModel model = MakeTestModel("llama");
  model.Find("model.layers.0.mlp.up_proj.weight")->values[0] =
      std::numeric_limits<float>::quiet_NaN();
  const ModelSanity sanity = Measure(model, {TestTokens(40)});
  EXPECT_EQ(sanity.perplexity, std::numeric_limits<double>::infinity());
  EXPECT_FALSE(sanity.sane());
  EXPECT_THAT(FormatSanity(sanity, "M", "T"), HasSubstr("found inf: the"));
}

TEST(ModelSanityTest, FewTokensSayNothing) {
  const TestModel model = MakeTestModel("llama");
  EXPECT_EQ(Measure(model, {}).tokens, 0);
  EXPECT_TRUE(Measure(model, {}).sane());
  EXPECT_TRUE(Measure(model, {{1}, {2}}).sane());
  EXPECT_TRUE(Measure(model, {TestTokens(32)}).sane());
  EXPECT_FALSE(Measure(model, {TestTokens(33)}).sane());
}

TEST(ModelSanityTest, Bound) {
  ModelSanity sanity;
  sanity.tokens = 256;
  sanity.vocab_size = 2048;
  sanity.perplexity = 1000;
  EXPECT_TRUE(sanity.sane());
  sanity.perplexity = 1024;
  EXPECT_FALSE(sanity.sane());
  EXPECT_THAT(FormatSanity(sanity, "models/llama", "book.txt"),
              HasSubstr("models/llama: expected a perplexity well below 2048, "
                        "which guessing among all tokens has, on 256 tokens of "
                        "book.txt, found 1024: the weights may be scrambled"));
}

TEST(ModelSanityTest, TokensThatTheModelDoesNotHaveAreAnError) {
  const auto pool = *CreateThreadPool(1);
  const auto sanity =
      MeasureSanity(Load(MakeTestModel("llama")),
                    Sequences{std::vector<int32_t>(40, kVocab)}, pool.get());
  EXPECT_EQ(sanity.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qeff
