// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/chart.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace qeff::internal_report {
namespace {

using absl::StrContains;

ChartFrame Frame() {
  ChartFrame frame;
  frame.id = "an-id";
  frame.title = "A <title>";
  frame.x_title = "Size, MB";
  frame.x = LinearAxis(0, 10);
  frame.y = LinearAxis(0, 4);
  frame.height = 200;
  return frame;
}

TEST(ChartTest, MarksLieWhereTheirValuesSay) {
  Mark mark;
  mark.style = "bar";
  mark.title = "a & b";
  mark.data = {{"value", 0.1}, {"name", "\"x\""}};
  EXPECT_EQ(DrawPoint(Frame(), 2.5, 3, mark),
            "<circle cx=\"25.000%\" cy=\"50.00\" r=\"5\" class=\"mark bar\" "
            "data-value=\"0.1\" data-name=\"&quot;x&quot;\"><title>a &amp; b"
            "</title></circle>\n");
  // Either corner first.
  const std::string bar = DrawBar(Frame(), 1, 0, 3, 1, mark);
  EXPECT_TRUE(StrContains(bar,
                          "<rect x=\"10.000%\" y=\"150.00\" width=\"20.000%\" "
                          "height=\"50.00\""))
      << bar;
  EXPECT_EQ(bar, DrawBar(Frame(), 1, 1, 3, 0, mark));
  EXPECT_TRUE(StrContains(DrawRowBar(Frame(), 0, 5, 20, 10, mark),
                          "x=\"0.000%\" y=\"20.00\" width=\"50.000%\" "
                          "height=\"10.00\""));
}

TEST(ChartTest, LinesAreStretchedToTheWidth) {
  EXPECT_TRUE(StrContains(DrawLine(Frame(), {{0, 0}, {5, 2}, {10, 4}}, "front"),
                          "points=\"0.00,200.00 500.00,100.00 1000.00,0.00\""));
  EXPECT_EQ(DrawLine(Frame(), {{1, 1}}, "front"), "");
}

TEST(ChartTest, AxesHaveTicksTitlesAndALegend) {
  ChartFrame frame = Frame();
  frame.legend = {{"before", "a < b"}};
  const std::string html = DrawChart(frame, "MARKS");
  for (const char* part :
       {"data-chart=\"an-id\"", "A &lt;title&gt;", "Size, MB", "MARKS",
        "<i class=\"before\"></i>a &lt; b", ">10</text>", ">3</text>"}) {
    EXPECT_TRUE(StrContains(html, part)) << part;
  }
  frame.y_ticks = false;
  EXPECT_FALSE(StrContains(DrawChart(frame, ""), ">3</text>"));
}

}  // namespace
}  // namespace qeff::internal_report
