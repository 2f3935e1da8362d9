// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/sample_section.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace qeff::internal_report {
namespace {

TEST(SampleSectionTest, CommonPrefixIsWholeCharacters) {
  EXPECT_EQ(CommonPrefix("", "abc"), 0u);
  EXPECT_EQ(CommonPrefix("abc", "abc"), 3u);
  EXPECT_EQ(CommonPrefix("abc", "abcd"), 3u);
  EXPECT_EQ(CommonPrefix("abx", "aby"), 2u);
  // é and è share their first byte, 日 and 旦 two.
  EXPECT_EQ(CommonPrefix("aé", "aè"), 1u);
  EXPECT_EQ(CommonPrefix("日", "旦"), 0u);
  EXPECT_EQ(CommonPrefix("日本", "日東"), 3u);
}

TEST(SampleSectionTest, MarksWhereAnswersPart) {
  const std::string html = SampleSection(
      {{"samples",
        {{{"prompt", "1 < 2"}, {"before", "so be it"}, {"after", "so is it"}},
         {{"prompt", "p"}, {"before", "same"}, {"after", "same"}}}}});
  EXPECT_TRUE(absl::StrContains(html, "<p class=\"prompt\">1 &lt; 2</p>"));
  EXPECT_TRUE(absl::StrContains(html, "so <mark>be it</mark>"));
  EXPECT_TRUE(absl::StrContains(html, "so <mark>is it</mark>"));
  EXPECT_TRUE(absl::StrContains(html, ">same</p>"));
}

}  // namespace
}  // namespace qeff::internal_report
