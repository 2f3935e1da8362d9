// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> RandomLogits(size_t size, uint64_t seed) {
  const Random random(seed);
  std::vector<float> logits(size);
  for (size_t i = 0; i < size; ++i) logits[i] = 2.0f * random.NormalAt(i);
  return logits;
}

// How often each token is drawn.
std::map<int32_t, int> Draw(const SamplerOptions& options,
                            const std::vector<float>& logits, int count) {
  Sampler sampler =
      *Sampler::Create(options, static_cast<int64_t>(logits.size()));
  std::map<int32_t, int> counts;
  for (int i = 0; i < count; ++i) ++counts[*sampler.Sample(logits)];
  return counts;
}

std::set<int32_t> Drawn(const SamplerOptions& options,
                        const std::vector<float>& logits) {
  std::set<int32_t> tokens;
  for (const auto& [token, count] : Draw(options, logits, 3000)) {
    tokens.insert(token);
  }
  return tokens;
}

std::vector<double> Softmax(const std::vector<float>& logits,
                            double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (float logit : logits) {
    p.push_back(std::exp(logit / temperature));
    sum += p.back();
  }
  for (double& v : p) v /= sum;
  return p;
}

TEST(SamplerTest, GreedyTakesTheFirstOfTheLargest) {
  Sampler sampler = *Sampler::Create({}, 5);
  EXPECT_EQ(*sampler.Sample({1, 3, 2, 3, 0}), 1);
  EXPECT_EQ(*sampler.Sample({-kInfinity, -5, -5, -6, -7}), 1);
  EXPECT_EQ(*sampler.Sample({-0.0f, 0.0f, 0.0f, -1, -1}), 0);
}

// The observed frequency of a token has standard deviation
// sqrt(p (1 - p) / n); five of them are exceeded once in two million.
TEST(SamplerTest, DrawsWithTheProbabilitiesOfTheSoftmax) {
  const std::vector<float> logits = RandomLogits(8, 1);
  constexpr int kDraws = 20000;
  for (double temperature : {0.5, 1.0, 2.0}) {
    SamplerOptions options;
    options.temperature = temperature;
    options.seed = 7;
    auto counts = Draw(options, logits, kDraws);
    const std::vector<double> p = Softmax(logits, temperature);
    for (int32_t i = 0; i < 8; ++i) {
      const double expected = p[static_cast<size_t>(i)];
      EXPECT_NEAR(counts[i] / static_cast<double>(kDraws), expected,
                  5 * std::sqrt(expected * (1 - expected) / kDraws))
          << "token " << i << ", temperature " << temperature;
    }
  }
}

TEST(SamplerTest, IsAFunctionOfTheSeed) {
  const std::vector<float> logits = RandomLogits(100, 2);
  SamplerOptions options;
  options.temperature = 1.5;
  options.top_p = 0.95;
  Sampler a = *Sampler::Create(options, 100);
  Sampler b = *Sampler::Create(options, 100);
  std::vector<int32_t> first, again;
  for (int i = 0; i < 50; ++i) {
    first.push_back(*a.Sample(logits));
    EXPECT_EQ(first.back(), *b.Sample(logits));
  }
  a.Reset();
  for (int i = 0; i < 50; ++i) again.push_back(*a.Sample(logits));
  EXPECT_EQ(again, first);
  options.seed = 1;
  Sampler other = *Sampler::Create(options, 100);
  std::vector<int32_t> different;
  for (int i = 0; i < 50; ++i) different.push_back(*other.Sample(logits));
  EXPECT_NE(different, first);
}

// Each filter keeps exactly the set that its definition names.
TEST(SamplerTest, FiltersKeepTheTokensOfTheirDefinition) {
  for (uint64_t seed = 10; seed < 30; ++seed) {
    const std::vector<float> logits = RandomLogits(9, seed);
    const std::vector<double> p = Softmax(logits, 3.0);
    std::vector<int32_t> order = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)];
    });
    SamplerOptions plain;
    plain.temperature = 3.0;  // flat enough to see every token that is left
    plain.seed = seed;

    SamplerOptions top_k = plain;
    top_k.top_k = 4;
    EXPECT_EQ(Drawn(top_k, logits),
              std::set<int32_t>(order.begin(), order.begin() + 4));

    SamplerOptions top_p = plain;
    top_p.top_p = 0.6;
    std::set<int32_t> nucleus;
    double sum = 0;
    for (int32_t id : order) {
      nucleus.insert(id);
      sum += p[static_cast<size_t>(id)];
      if (sum >= 0.6) break;
    }
    EXPECT_EQ(Drawn(top_p, logits), nucleus) << "seed " << seed;

    SamplerOptions min_p = plain;
    min_p.min_p = 0.5;
    std::set<int32_t> likely;
    for (int32_t id : order) {
      if (p[static_cast<size_t>(id)] >=
          0.5 * p[static_cast<size_t>(order[0])]) {
        likely.insert(id);
      }
    }
    EXPECT_EQ(Drawn(min_p, logits), likely) << "seed " << seed;
  }
}

TEST(SamplerTest, ExtremeFiltersKeepOneToken) {
  const std::vector<float> logits = {0, 2, 2, 1};
  SamplerOptions options;
  options.temperature = 1;
  for (int filter = 0; filter < 3; ++filter) {
    SamplerOptions one = options;
    if (filter == 0) one.top_k = 1;
    if (filter == 1) one.top_p = 1e-9;
    if (filter == 2) one.temperature = 1e-300;
    const std::set<int32_t> drawn = Drawn(one, logits);
    // A temperature near 0 leaves both of the equal ones.
    EXPECT_EQ(drawn,
              filter == 2 ? (std::set<int32_t>{1, 2}) : (std::set<int32_t>{1}))
        << filter;
  }
  SamplerOptions equals = options;
  equals.min_p = 1;
  EXPECT_EQ(Drawn(equals, logits), (std::set<int32_t>{1, 2}));
  SamplerOptions all = options;
  all.top_k = 1000;
  EXPECT_EQ(Drawn(all, logits), (std::set<int32_t>{0, 1, 2, 3}));
}

// top-p sees the probabilities that temperature made: the order of filters.
TEST(SamplerTest, TemperatureComesBeforeTopP) {
  const std::vector<float> logits = {2, 1, 0};
  SamplerOptions options;
  options.top_p = 0.6;
  options.temperature = 1;  // 0.67, 0.24, 0.09
  EXPECT_EQ(Drawn(options, logits), (std::set<int32_t>{0}));
  options.temperature = 10;  // 0.37, 0.33, 0.30
  EXPECT_EQ(Drawn(options, logits), (std::set<int32_t>{0, 1}));
}

TEST(SamplerTest, RepetitionPenaltyPushesAcceptedTokensDown) {
  SamplerOptions options;
  options.repetition_penalty = 2;
  Sampler sampler = *Sampler::Create(options, 4);
  EXPECT_EQ(*sampler.Sample({3, 2, -1, -2}), 0);
  sampler.Accept({0, 0, 0, -7, 99});  // once each; unknown ids are ignored
  EXPECT_EQ(*sampler.Sample({3, 2, -1, -2}), 1);  // 1.5 < 2
  EXPECT_EQ(*sampler.Sample({5, 2, -1, -2}), 0);  // 2.5 > 2
  sampler.Accept({2});
  EXPECT_EQ(*sampler.Sample({-9, -9, -1, -1.5f}), 3);  // -2 < -1.5
  sampler.Reset();
  EXPECT_EQ(*sampler.Sample({3, 2, -1, -2}), 0);
}

TEST(SamplerTest, MinusInfinityIsNeverDrawn) {
  SamplerOptions options;
  options.temperature = 100;
  EXPECT_EQ(Drawn(options, {0, -kInfinity, 0, -kInfinity}),
            (std::set<int32_t>{0, 2}));
}

TEST(SamplerTest, BadLogitsAreErrors) {
  Sampler sampler = *Sampler::Create({}, 3);
  const auto nan = sampler.Sample({1, std::nanf(""), 2});
  EXPECT_EQ(nan.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(absl::StrContains(nan.status().message(), "logit of token 1"))
      << nan.status();
  EXPECT_EQ(sampler.Sample({1, 2, kInfinity}).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(
      sampler.Sample({-kInfinity, -kInfinity, -kInfinity}).status().code(),
      absl::StatusCode::kDataLoss);
  EXPECT_EQ(sampler.Sample({1, 2}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SamplerTest, WithdrawnTokensAreNotPenalized) {
  SamplerOptions options;
  options.repetition_penalty = 2;
  Sampler sampler = *Sampler::Create(options, 4);
  sampler.Accept({0, 1});
  sampler.Accept({0, 2});
  sampler.Withdraw({0, 2, -7, 99});
  EXPECT_EQ(*sampler.Sample({3, 0, 2, -1}), 2);  // 1.5 < 2
  sampler.Withdraw({0, 1});
  EXPECT_EQ(*sampler.Sample({3, 0, 2, -1}), 0);
}

// The filters in the order that sampler.h says.
struct FilterCase {
  const char* name;
  double temperature;
  int64_t top_k;
  double top_p;
  double min_p;
};

class VerifyTest : public ::testing::TestWithParam<FilterCase> {};

// However the draft's logits differ, the frequencies are those of Sample with
// the model's (five standard deviations, as above), and the proposal is taken
// as often as both distributions overlap: no rule can do better.
TEST_P(VerifyTest, HasTheDistributionOfSample) {
  constexpr int kDraws = 20000;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(seed);
    SamplerOptions options;
    options.temperature = GetParam().temperature;
    options.top_k = GetParam().top_k;
    options.top_p = GetParam().top_p;
    options.min_p = GetParam().min_p;
    options.seed = seed;
    const std::vector<float> logits = RandomLogits(8, 100 + seed);
    std::vector<float> draft_logits = RandomLogits(8, 200 + seed);
    if (seed == 0) draft_logits = logits;
    if (seed == 1) draft_logits[3] = -kInfinity;

    Sampler sampler = *Sampler::Create(options, 8);
    Proposal of_model, proposal;
    ASSERT_TRUE(sampler.Propose(logits, &of_model).ok());
    std::vector<double> p(8, 0.0), q(8, 0.0);
    for (const TokenWeight& t : of_model.distribution) {
      p[static_cast<size_t>(t.id)] = t.weight;
    }
    std::vector<int> counts(8, 0);
    int accepted = 0;
    for (int i = 0; i < kDraws; ++i) {
      ASSERT_TRUE(sampler.Propose(draft_logits, &proposal).ok());
      const auto token = sampler.Verify(proposal, logits);
      ASSERT_TRUE(token.ok()) << token.status();
      ++counts[static_cast<size_t>(*token)];
      accepted += *token == proposal.token;
    }
    for (const TokenWeight& t : proposal.distribution) {
      q[static_cast<size_t>(t.id)] = t.weight;
    }
    double overlap = 0;
    for (size_t i = 0; i < 8; ++i) {
      overlap += std::min(p[i], q[i]);
      EXPECT_NEAR(counts[i] / static_cast<double>(kDraws), p[i],
                  5 * std::sqrt(p[i] * (1 - p[i]) / kDraws))
          << "token " << i;
    }
    if (seed == 0) {
      EXPECT_EQ(accepted, kDraws);
    } else {
      EXPECT_NEAR(accepted / static_cast<double>(kDraws), overlap,
                  5 * std::sqrt(overlap * (1 - overlap) / kDraws));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Filters, VerifyTest,
                         ::testing::Values(FilterCase{"Plain", 1.0, 0, 1.0,
                                                      0.0},
                                           FilterCase{"Hot", 2.5, 0, 1.0, 0.0},
                                           FilterCase{"TopK", 1.5, 3, 1.0, 0.0},
                                           FilterCase{"TopP", 1.5, 0, 0.8, 0.0},
                                           FilterCase{"MinP", 1.5, 0, 1.0, 0.2},
                                           FilterCase{"All", 2.0, 6, 0.9, 0.1}),
                         [](const ::testing::TestParamInfo<FilterCase>& info) {
                           return info.param.name;
                         });

TEST(SamplerTest, ProposalsSayWhatTheyWereDrawnFrom) {
  SamplerOptions options;
  options.temperature = 1;
  options.top_k = 2;
  Sampler sampler = *Sampler::Create(options, 4);
  Sampler same = *Sampler::Create(options, 4);
  Proposal proposal;
  ASSERT_TRUE(sampler.Propose({0, 1, -kInfinity, 3}, &proposal).ok());
  EXPECT_EQ(proposal.token, *same.Sample({0, 1, -kInfinity, 3}));
  ASSERT_EQ(proposal.distribution.size(), 2u);
  const double p = 1 / (1 + std::exp(2.0));
  EXPECT_EQ(proposal.distribution[0].id, 1);
  EXPECT_NEAR(proposal.distribution[0].weight, p, 1e-15);
  EXPECT_EQ(proposal.distribution[1].id, 3);
  EXPECT_NEAR(proposal.distribution[1].weight, 1 - p, 1e-15);
  EXPECT_NEAR(proposal.probability, proposal.token == 3 ? 1 - p : p, 1e-15);
  EXPECT_FALSE(sampler.Propose({0, 1}, &proposal).ok());
  EXPECT_FALSE(sampler.Verify(proposal, {0, 1}).ok());

  // What the model cannot choose is never taken; what the draft model cannot
  // propose is still chosen.
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(sampler.Propose({0, 0, 5, 5}, &proposal).ok());
    EXPECT_LT(*sampler.Verify(proposal, {0, 0, -kInfinity, -kInfinity}), 2);
  }
  Sampler greedy = *Sampler::Create({}, 3);
  ASSERT_TRUE(greedy.Propose({0, 1, 1}, &proposal).ok());
  EXPECT_EQ(proposal.token, 1);
  EXPECT_EQ(*greedy.Verify(proposal, {0, 1, 2}), 2);
  EXPECT_EQ(*greedy.Verify(proposal, {0, 1, 1}), 1);
}

TEST(SamplerTest, BadOptionsAreErrorsThatNameThem) {
  const auto message = [](const SamplerOptions& options) {
    const auto sampler = Sampler::Create(options, 10);
    EXPECT_EQ(sampler.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(sampler.status().message());
  };
  const double nan = std::nan("");
  const auto with = [](auto SamplerOptions::*field, auto value) {
    SamplerOptions options;
    options.*field = value;
    return options;
  };
  EXPECT_EQ(message(with(&SamplerOptions::temperature, -1.0)),
            "temperature: expected 0 or more, found -1");
  message(with(&SamplerOptions::temperature, nan));
  EXPECT_EQ(message(with(&SamplerOptions::top_k, int64_t{-1})),
            "top_k: expected 0 or more, found -1");
  EXPECT_EQ(message(with(&SamplerOptions::top_p, 0.0)),
            "top_p: expected above 0 and at most 1, found 0");
  message(with(&SamplerOptions::top_p, nan));
  EXPECT_EQ(message(with(&SamplerOptions::min_p, 1.5)),
            "min_p: expected 0 to 1, found 1.5");
  message(with(&SamplerOptions::min_p, nan));
  EXPECT_EQ(message(with(&SamplerOptions::repetition_penalty, 0.0)),
            "repetition_penalty: expected 0.001 to 1000, found 0");
  message(with(&SamplerOptions::repetition_penalty, nan));
  EXPECT_FALSE(Sampler::Create({}, 0).ok());
  EXPECT_FALSE(Sampler::Create({}, int64_t{1} << 31).ok());
}

}  // namespace
}  // namespace qeff
