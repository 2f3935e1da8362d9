// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/loss_section.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/chart.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

// Points of the training loss that can be pointed at: one for each pixel of a
// phone and a half. The line has all.
constexpr size_t kMostMarks = 400;

std::string PointMark(const ChartFrame& frame, const ChartPoint& point,
                      absl::string_view key, absl::string_view name) {
  Mark mark;
  mark.style = absl::StrCat("point ", key);
  mark.radius = 4;
  mark.title = absl::StrCat("step ", NumberText(point.x), ": ", name, " ",
                            NumberText(point.y));
  mark.data = {{"step", point.x}, {"value", point.y}};
  return DrawPoint(frame, point.x, point.y, mark);
}

std::string LossChart(const Json& curve) {
  std::vector<ChartPoint> loss;
  std::vector<ChartPoint> held_out;
  std::vector<double> values;
  double first = 0;
  double last = 0;
  for (const Json& point : ListAt(curve, "points")) {
    const absl::optional<double> step = NumberAt(point, "step");
    if (!step.has_value()) continue;
    for (const bool is_held_out : {false, true}) {
      const absl::optional<double> value =
          NumberAt(point, is_held_out ? "held_out" : "loss");
      if (!value.has_value()) continue;
      (is_held_out ? held_out : loss).push_back({*step, *value});
      first = values.empty() ? *step : std::min(first, *step);
      last = values.empty() ? *step : std::max(last, *step);
      values.push_back(*value);
    }
  }
  if (values.empty()) return "";

  ChartFrame frame;
  const std::string step = StringAt(curve, "step");
  frame.id = absl::StrCat("loss-", step);
  frame.title = step;
  frame.height = 220;
  AxisOptions steps;
  steps.min_step = 1;
  steps.round_ends = false;
  frame.x = LinearAxis(first, last, steps);
  frame.x_title = "Step";
  frame.y = AxisOf(values);
  frame.y_title = "Loss";
  frame.legend.push_back({"loss", "training text"});
  if (!held_out.empty()) frame.legend.push_back({"held-out", "held-out text"});

  std::string marks = DrawLine(frame, loss, "loss");
  marks += DrawLine(frame, held_out, "held-out");
  const size_t stride = (loss.size() + kMostMarks - 1) / kMostMarks;
  for (size_t i = 0; i < loss.size(); i += stride) {
    marks += PointMark(frame, loss[i], "loss", "loss");
  }
  for (const ChartPoint& point : held_out) {
    marks += PointMark(frame, point, "held-out", "held-out loss");
  }
  return DrawChart(frame, marks);
}

}  // namespace

std::string LossSection(const Json& report) {
  std::string charts;
  for (const Json& curve : ListAt(report, "loss_curves")) {
    charts += LossChart(curve);
  }
  if (charts.empty()) return "";
  return HtmlSection(
      "loss", "Training", "",
      absl::StrCat("<div class=\"grid\">\n", charts, "</div>\n"));
}

}  // namespace qeff::internal_report
