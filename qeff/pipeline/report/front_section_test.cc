// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/front_section.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff::internal_report {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(NonDominatedTest, KeepsWhatNothingBeatsInBoth) {
  EXPECT_THAT(NonDominated({}), IsEmpty());
  EXPECT_THAT(NonDominated({{1, 1}}), ElementsAre(0));
  EXPECT_THAT(NonDominated({{3, 1}, {1, 3}, {2, 2}, {3, 2}, {2, 4}}),
              ElementsAre(1, 2, 0));
  // As good in one coordinate and worse in the other, and equal ones.
  EXPECT_THAT(NonDominated({{1, 2}, {1, 1}, {2, 1}, {1, 1}}), ElementsAre(1));
}

// By the definition, over points of a small grid.
TEST(NonDominatedTest, AgreesWithTheDefinition) {
  std::vector<ChartPoint> points;
  for (int i = 0; i < 200; ++i) {
    points.push_back({double(i * 37 % 23), double(i * i * 13 % 29)});
  }
  std::vector<bool> kept(points.size());
  for (const size_t i : NonDominated(points)) kept[i] = true;
  for (size_t i = 0; i < points.size(); ++i) {
    bool beaten = false;
    for (size_t j = 0; j < points.size(); ++j) {
      const ChartPoint& a = points[i];
      const ChartPoint& b = points[j];
      const bool equal = b.x == a.x && b.y == a.y;
      beaten |= b.x <= a.x && b.y <= a.y && (!equal || j < i);
    }
    EXPECT_EQ(kept[i], !beaten) << i;
  }
}

TEST(FrontSectionTest, DrawsWhatHasSizeAndMeasure) {
  const Json report = {
      {"models",
       {{{"name", "a"}, {"bytes", 100}, {"perplexity", 5}},
        {{"name", "b"}, {"bytes", 50}, {"perplexity", nullptr}},
        {{"name", "c"}, {"perplexity", 6}}}}};
  const std::string html = FrontSection(report);
  EXPECT_TRUE(absl::StrContains(html, "data-chart=\"front-perplexity\""));
  EXPECT_FALSE(absl::StrContains(html, "front-kl"));
  EXPECT_TRUE(absl::StrContains(html, "data-name=\"a\" data-bytes=\"100.0\""));
  EXPECT_FALSE(absl::StrContains(html, "data-name=\"b\""));
  EXPECT_FALSE(absl::StrContains(html, "data-name=\"c\""));
  // In the table all are.
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_TRUE(absl::StrContains(
        html, std::string("<th scope=\"row\">") + name + "</th>"));
  }
}

}  // namespace
}  // namespace qeff::internal_report
