// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/stop_matcher.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

TEST(StopMatcherTest, HoldsBackWhatCouldBecomeAStop) {
  StopMatcher matcher({"END", "\n\n"});
  EXPECT_EQ(matcher.Append("the E"), "the ");
  EXPECT_EQ(matcher.Append("N"), "");
  EXPECT_EQ(matcher.Append("T\n"), "ENT");
  EXPECT_EQ(matcher.Append("EN"), "\n");
  EXPECT_EQ(matcher.Append("D and more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Append("ignored"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, TheFirstOneWins) {
  StopMatcher matcher({"world", "o w", "never"});
  EXPECT_EQ(matcher.Append("hello world"), "hell");
  EXPECT_TRUE(matcher.stopped());
}

TEST(StopMatcherTest, FlushGivesTheOpenEnd) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.Append("xaaa"), "xa");
  EXPECT_EQ(matcher.Flush(), "aa");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcherTest, WithoutStopsEverythingPasses) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Append("any"), "any");
  EXPECT_EQ(matcher.Append(""), "");
  EXPECT_EQ(matcher.Flush(), "");
}

// Over a two-letter alphabet, where overlaps abound: any split into pieces
// gives the text before the first occurrence, and what was passed never has to
// be taken back.
TEST(StopMatcherTest, PiecesDoNotMatter) {
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Random random(seed);
    const auto word = [&](uint64_t max_size) {
      std::string s(1 + random.NextBelow(max_size), 'a');
      for (char& c : s) c = random.NextBelow(2) == 0 ? 'a' : 'b';
      return s;
    };
    const std::vector<std::string> stops = {word(5), word(3) + "c"};
    const std::string text = word(12);
    const size_t match = std::min(text.find(stops[0]), text.find(stops[1]));

    StopMatcher matcher(stops);
    std::string passed;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + random.NextBelow(3);
      passed += matcher.Append(text.substr(at, n));
      EXPECT_EQ(passed, text.substr(0, passed.size())) << "seed " << seed;
      EXPECT_LE(passed.size(), match) << "seed " << seed;
      at += n;
    }
    EXPECT_EQ(matcher.stopped(), match != std::string::npos) << "seed " << seed;
    passed += matcher.Flush();
    EXPECT_EQ(passed, text.substr(0, match)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace qeff
