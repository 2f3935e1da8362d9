// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/windows.h"

#include <numeric>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kBos = 99;

std::vector<int32_t> Count(int n) {
  std::vector<int32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

// Text tokens that are scored, in order of windows.
std::vector<int32_t> Scored(const std::vector<ScoredWindow>& windows) {
  std::vector<int32_t> scored;
  for (const ScoredWindow& w : windows) {
    scored.insert(scored.end(), w.tokens.begin() + w.first_scored,
                  w.tokens.end());
  }
  return scored;
}

TEST(CutWindowsTest, EveryTokenOnceForAnyStride) {
  for (int length : {1, 2, 7, 8, 23}) {
    for (int64_t stride : {0, 1, 2, 3, 4}) {
      WindowOptions options;
      options.context_length = 5;
      options.stride = stride;
      const auto windows = CutWindows(Count(length), kBos, options);
      ASSERT_TRUE(windows.ok()) << windows.status();
      EXPECT_EQ(Scored(*windows), Count(length));
      for (const ScoredWindow& w : *windows) {
        EXPECT_EQ(w.tokens[0], kBos);
        EXPECT_LE(w.tokens.size(), 5u);
      }
    }
  }
}

TEST(CutWindowsTest, WithoutBosFirstTokensHaveNoContext) {
  WindowOptions options;
  options.context_length = 4;
  const auto windows = CutWindows(Count(9), absl::nullopt, options);
  ASSERT_TRUE(windows.ok());
  // Windows 0-3, 4-7, and 8, which alone cannot be scored.
  EXPECT_THAT(Scored(*windows), ElementsAre(1, 2, 3, 5, 6, 7));
  options.stride = 3;
  EXPECT_THAT(Scored(*CutWindows(Count(9), absl::nullopt, options)),
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
}

TEST(CutWindowsTest, LlamaCppScoresTheSecondHalf) {
  WindowOptions options;
  options.protocol = EvalProtocol::kLlamaCpp;
  options.context_length = 8;
  const auto windows = CutWindows(Count(20), kBos, options);
  ASSERT_TRUE(windows.ok());
  ASSERT_EQ(windows->size(), 2u);  // 21 tokens with BOS
  EXPECT_THAT((*windows)[0].tokens, ElementsAre(kBos, 0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT((*windows)[1].tokens,
              ElementsAre(kBos, 8, 9, 10, 11, 12, 13, 14));
  EXPECT_THAT(Scored(*windows), ElementsAre(4, 5, 6, 12, 13, 14));
}

TEST(CutWindowsTest, MaxTokens) {
  WindowOptions options;
  options.context_length = 4;
  options.max_tokens = 5;
  EXPECT_EQ(Scored(*CutWindows(Count(9), kBos, options)), Count(5));
  options.max_tokens = 500;
  EXPECT_EQ(Scored(*CutWindows(Count(9), kBos, options)), Count(9));
}

TEST(CutWindowsTest, Errors) {
  WindowOptions options;
  options.context_length = 1;
  EXPECT_THAT(CutWindows(Count(9), kBos, options).status().ToString(),
              HasSubstr("context_length: expected 2 or more, found 1"));
  options.context_length = 4;
  options.stride = 4;
  EXPECT_THAT(CutWindows(Count(9), kBos, options).status().ToString(),
              HasSubstr("stride: expected 1 to 3"));
  options.stride = 0;
  EXPECT_THAT(CutWindows({}, kBos, options).status().ToString(),
              HasSubstr("text: has 0 tokens"));
  options.protocol = EvalProtocol::kLlamaCpp;
  EXPECT_THAT(CutWindows(Count(2), kBos, options).status().ToString(),
              HasSubstr("too few to score one window of 4"));
}

}  // namespace
}  // namespace qeff
