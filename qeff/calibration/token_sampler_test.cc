// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/token_sampler.h"

#include <numeric>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> Text(int count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 100);
  return ids;
}

TokenSample Sample(int text, absl::optional<int32_t> bos, int64_t tokens,
                   int64_t length, uint64_t seed = 0) {
  SampleOptions options;
  options.tokens = tokens;
  options.sequence_length = length;
  options.seed = seed;
  return SampleTokens(Text(text), bos, options).value();
}

TEST(TokenSamplerTest, PiecesFollowOneAnotherBehindBos) {
  const TokenSample sample = Sample(10, 1, 100, 5);
  ASSERT_EQ(sample.sequences.size(), 2u);
  EXPECT_THAT(sample.sequences[0], ElementsAre(1, 100, 101, 102, 103));
  EXPECT_THAT(sample.sequences[1], ElementsAre(1, 104, 105, 106, 107));
  EXPECT_EQ(sample.tokens, 10);
  EXPECT_THAT(Sample(3, absl::nullopt, 100, 3).sequences,
              ElementsAre(ElementsAre(100, 101, 102)));
}

TEST(TokenSamplerTest, ATextShorterThanASequenceIsOne) {
  const TokenSample sample = Sample(2, 1, 100, 8);
  EXPECT_THAT(sample.sequences, ElementsAre(ElementsAre(1, 100, 101)));
  EXPECT_EQ(sample.tokens, 3);
}

TEST(TokenSamplerTest, DrawsAsManyAsNeededWithoutRepetition) {
  // 1000 tokens are 250 pieces of 4; 90 tokens need 18 sequences of 5.
  const TokenSample sample = Sample(1000, 1, 90, 5, 7);
  EXPECT_EQ(sample.sequences.size(), 18u);
  std::set<int32_t> begins;
  int32_t last = 0;
  for (const auto& sequence : sample.sequences) {
    ASSERT_EQ(sequence.size(), 5u);
    EXPECT_GT(sequence[1], last);
    last = sequence[1];
    begins.insert(sequence[1]);
  }
  EXPECT_EQ(begins.size(), 18u);
  EXPECT_EQ(Sample(1000, 1, 90, 5, 7).sequences, sample.sequences);
  EXPECT_NE(Sample(1000, 1, 90, 5, 8).sequences, sample.sequences);
}

TEST(TokenSamplerTest, EveryPieceIsAsLikely) {
  std::vector<int> drawn(10);
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    for (const auto& sequence :
         Sample(10, absl::nullopt, 3, 1, seed).sequences) {
      ++drawn[static_cast<size_t>(sequence[0] - 100)];
    }
  }
  // 600 each; a standard deviation is 20.
  for (const int count : drawn) EXPECT_NEAR(count, 600, 120);
}

TEST(TokenSamplerTest, BadArguments) {
  SampleOptions options;
  EXPECT_THAT(SampleTokens({}, 1, options).status().message(),
              HasSubstr("no tokens"));
  options.sequence_length = 1;
  EXPECT_THAT(SampleTokens(Text(3), 1, options).status().message(),
              HasSubstr("sequence_length: expected 2 or more"));
  EXPECT_TRUE(SampleTokens(Text(3), absl::nullopt, options).ok());
  options.tokens = 0;
  EXPECT_THAT(SampleTokens(Text(3), absl::nullopt, options).status().message(),
              HasSubstr("calibration_tokens"));
}

}  // namespace
}  // namespace qeff
