// SPDX-License-Identifier: Apache-2.0
//
// Charts as inline SVG: a frame with axes, and marks in it. Places are shares
// of the width and pixels of the height, so that a chart is as wide as its
// page, on a phone or on paper, with letters of one size. All colours are
// classes of the page's style sheet. The same marks give the same bytes.

#ifndef QEFF_PIPELINE_REPORT_CHART_H_
#define QEFF_PIPELINE_REPORT_CHART_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/pipeline/report/axis.h"
#include "qeff/util/json.h"

namespace qeff::internal_report {

struct ChartFrame {
  std::string id;     // attribute data-chart; unique in a page
  std::string title;  // all texts are plain text, not HTML
  std::string note;   // below the title; may be empty
  std::string x_title;
  std::string y_title;  // may be empty
  Axis x;
  Axis y;
  bool y_ticks = true;  // without, there is no y axis
  int height = 200;     // of the plot, without what is written around it
  // Pairs of a class of the style sheet and its meaning.
  std::vector<std::pair<std::string, std::string>> legend;
};

// What a mark stands for. Values are in the units of the report, and in
// attributes `data-NAME` as the report's JSON has them.
struct Mark {
  std::string style;  // a class of the style sheet
  std::string title;  // what a pointer over it shows; plain text
  std::vector<std::pair<std::string, Json>> data;
  double radius = 5;  // of a point, in pixels
};

struct ChartPoint {
  double x;
  double y;
};

// The meanings of classes as a line of HTML; empty without any.
std::string DrawLegend(
    const std::vector<std::pair<std::string, std::string>>& legend);

// A <figure> with one <svg>, in which `marks`, made by the functions below for
// the same frame, lie over the grid.
std::string DrawChart(const ChartFrame& frame, absl::string_view marks);

// A circle around (x, y).
std::string DrawPoint(const ChartFrame& frame, double x, double y,
                      const Mark& mark);

// A rectangle between two corners.
std::string DrawBar(const ChartFrame& frame, double x0, double y0, double x1,
                    double y1, const Mark& mark);

// A horizontal bar from x0 to x1, `top` pixels below the frame's upper edge.
std::string DrawRowBar(const ChartFrame& frame, double x0, double x1, int top,
                       int height, const Mark& mark);

// A line through `points`, of class `style`.
std::string DrawLine(const ChartFrame& frame,
                     const std::vector<ChartPoint>& points,
                     absl::string_view style);

// A plain text, `dx`, `dy` pixels from a place that is `x_share` of the width
// from the left and `y` pixels from above; `anchor` is start, middle or end.
std::string DrawText(double x_share, double y, int dx, int dy,
                     absl::string_view anchor, absl::string_view style,
                     absl::string_view text);

// Where `y` lies, in pixels from above.
double PixelsFromTop(const ChartFrame& frame, double y);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_CHART_H_
