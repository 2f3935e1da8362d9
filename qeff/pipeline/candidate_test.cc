// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/candidate.h"

#include <vector>

#include "gtest/gtest.h"

namespace qeff {
namespace {

Candidate Make(uint64_t bytes, double bits_per_weight, double perplexity) {
  Candidate candidate;
  candidate.bytes = bytes;
  candidate.bits_per_weight = bits_per_weight;
  candidate.perplexity = perplexity;
  return candidate;
}

const std::vector<Candidate>& Candidates() {
  static const auto* all =
      new std::vector<Candidate>{Make(400, 4, 10.1), Make(300, 3, 10.4),
                                 Make(310, 3.1, 10.2), Make(200, 2, 12)};
  return *all;
}

TEST(CandidateTest, OfASizeTheLeastPerplexity) {
  SearchLimits limits;
  limits.bytes = 310;
  EXPECT_EQ(BestWithin(limits, Candidates(), 10), 2U);
  limits.bytes = 309;
  EXPECT_EQ(BestWithin(limits, Candidates(), 10), 1U);
  limits.bytes = 199;
  EXPECT_FALSE(BestWithin(limits, Candidates(), 10).has_value());
  limits.bytes = 0;
  limits.bits_per_weight = 5;
  EXPECT_EQ(BestWithin(limits, Candidates(), 10), 0U);
}

TEST(CandidateTest, OfAPerplexityTheSmallest) {
  SearchLimits limits;
  limits.perplexity_increase = .05;
  EXPECT_EQ(BestWithin(limits, Candidates(), 10), 1U);
  limits.perplexity_increase = .03;
  EXPECT_EQ(BestWithin(limits, Candidates(), 10), 2U);
  limits.perplexity_increase = .005;
  EXPECT_FALSE(BestWithin(limits, Candidates(), 10).has_value());
  EXPECT_TRUE(FitsSize(limits, 1000, 32));
}

}  // namespace
}  // namespace qeff
