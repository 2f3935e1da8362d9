// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/point_labels.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace qeff::internal_report {
namespace {

ChartFrame Frame() {
  ChartFrame frame;
  frame.x = LinearAxis(0, 10);
  frame.y = LinearAxis(0, 10);
  frame.height = 200;
  return frame;
}

TEST(PointLabelsTest, StandBesideTheirPoints) {
  PointLabels labels(Frame(), {{1, 5}, {9.5, 5}}, {});
  EXPECT_TRUE(labels.Add({1, 5}, "left<"));
  EXPECT_TRUE(labels.Add({9.5, 5}, "at the right"));
  EXPECT_TRUE(
      absl::StrContains(labels.svg(), "text-anchor=\"start\">left&lt;</text>"));
  // On its right there is no room.
  EXPECT_TRUE(absl::StrContains(labels.svg(),
                                "text-anchor=\"end\">at the right</text>"));
}

TEST(PointLabelsTest, AreLeftOutWhereTheyWouldCoverSomething) {
  std::vector<ChartPoint> points;
  for (int i = 0; i < 12; ++i) points.push_back({5 + 0.1 * i, 5});
  PointLabels labels(Frame(), points, {});
  int placed = 0;
  for (const ChartPoint& point : points) {
    placed += labels.Add(point, "a_name_of_a_model");
  }
  EXPECT_GE(placed, 2);  // above and below
  EXPECT_LT(placed, 6);
}

TEST(PointLabelsTest, KeepOffTheLineWhereTheyCan) {
  const std::vector<ChartPoint> line = {{1, 5}, {9, 5}};
  PointLabels labels(Frame(), line, line);
  EXPECT_TRUE(labels.Add(line[0], "name"));
  // Not on its right, where the line is, nor on its left, outside of the plot.
  EXPECT_TRUE(absl::StrContains(labels.svg(), "text-anchor=\"middle\""));
  // A point that has no other place.
  PointLabels crossed(Frame(), {{5, 5}}, {{0, 5}, {10, 5}});
  EXPECT_TRUE(crossed.Add({5, 5}, "a"));
  EXPECT_TRUE(crossed.Add({5, 5}, "b"));
  EXPECT_TRUE(crossed.Add({5, 5}, "c"));
  EXPECT_TRUE(absl::StrContains(crossed.svg(), "\"start\">c</text>"));
}

TEST(PointLabelsTest, LongNamesAreShortenedBetweenCharacters) {
  PointLabels labels(Frame(), {{0, 5}}, {});
  EXPECT_TRUE(labels.Add({0, 5}, "ßßßßßßßßßßßßßßßßßßßßßßßßßßßßßßß"));
  EXPECT_TRUE(absl::StrContains(labels.svg(), ">ßßßßßßßßßßßßßßßßßßßßßßß…<"))
      << labels.svg();
}

}  // namespace
}  // namespace qeff::internal_report
