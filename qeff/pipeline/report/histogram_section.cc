// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/histogram_section.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/chart.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

// The scale of shares: percent.
constexpr double kPercent = 0.01;

struct Histogram {
  std::string role;
  double low = 0;
  double high = 0;
  std::vector<double> before;  // counts; empty: there is none
  std::vector<double> after;

  size_t bins() const { return std::max(before.size(), after.size()); }
  double Edge(size_t bin) const {
    return low + (high - low) * static_cast<double>(bin) /
                     static_cast<double>(bins());
  }
};

std::vector<double> CountsAt(const Json& histogram, const char* key) {
  std::vector<double> counts;
  for (const Json& count : ListAt(histogram, key)) {
    counts.push_back(std::max(NumberOf(count).value_or(0), 0.0));
  }
  return counts;
}

// Counts as shares of their sum.
std::vector<double> Shares(std::vector<double> counts) {
  const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
  if (sum == 0) return {};
  for (double& count : counts) count /= sum;
  return counts;
}

double Largest(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

// Up one edge of each bin and down the other.
std::vector<ChartPoint> Steps(const Histogram& histogram,
                              const std::vector<double>& shares) {
  std::vector<ChartPoint> points = {{histogram.Edge(0), 0}};
  for (size_t i = 0; i < shares.size(); ++i) {
    points.push_back({histogram.Edge(i), shares[i]});
    points.push_back({histogram.Edge(i + 1), shares[i]});
  }
  points.push_back({histogram.Edge(shares.size()), 0});
  return points;
}

// A place to point at over each bin, as high as the plot.
std::string BinMarks(const ChartFrame& frame, const Histogram& histogram,
                     const std::vector<double>& before,
                     const std::vector<double>& after) {
  std::string marks;
  for (size_t i = 0; i < histogram.bins(); ++i) {
    const double left = histogram.Edge(i);
    const double right = histogram.Edge(i + 1);
    Mark mark;
    mark.style = "bin";
    mark.title =
        absl::StrCat(NumberText(left, 3), " to ", NumberText(right, 3), ":");
    if (i < before.size()) {
      absl::StrAppend(&mark.title, " before ", PercentText(before[i]));
      mark.data.push_back({"before", histogram.before[i]});
    }
    if (i < after.size()) {
      absl::StrAppend(&mark.title, before.empty() ? "" : ",", " after ",
                      PercentText(after[i]));
      mark.data.push_back({"after", histogram.after[i]});
    }
    marks += DrawBar(frame, left, 0, right, frame.y.high, mark);
  }
  return marks;
}

// The share of the highest bin that does not fit.
std::string CutText(const ChartFrame& frame, const Histogram& histogram,
                    const std::vector<double>& after) {
  const auto highest = std::max_element(after.begin(), after.end());
  if (highest == after.end() || *highest <= frame.y.high) return "";
  const size_t bin = highest - after.begin();
  const double center = (histogram.Edge(bin) + histogram.Edge(bin + 1)) / 2;
  const double share = frame.x.Share(center);
  const bool right = share > 0.5;
  return DrawText(share, 0, right ? -6 : 6, 10, right ? "end" : "start",
                  "label", absl::StrCat("↑ ", PercentText(*highest)));
}

std::string HistogramChart(const Json& json, absl::string_view id,
                           absl::string_view x_title) {
  Histogram histogram;
  histogram.role = StringAt(json, "role");
  const absl::optional<double> low = NumberAt(json, "low");
  const absl::optional<double> high = NumberAt(json, "high");
  histogram.before = CountsAt(json, "before");
  histogram.after = CountsAt(json, "after");
  const std::vector<double> before = Shares(histogram.before);
  const std::vector<double> after = Shares(histogram.after);
  if (!low.has_value() || !high.has_value() || *low >= *high ||
      (before.empty() && after.empty())) {
    return "";
  }
  // The bins of both are those of the longer one.
  histogram.low = *low;
  histogram.high = *high;

  ChartFrame frame;
  frame.id = absl::StrCat(id, "-", histogram.role);
  frame.title = histogram.role;
  frame.height = 130;
  AxisOptions x;
  x.ticks = 4;
  x.round_ends = false;
  frame.x = LinearAxis(*low, *high, x);
  frame.x_title = std::string(x_title);
  double top = std::max(Largest(before), Largest(after));
  if (!before.empty()) top = std::min(top, 2 * Largest(before));
  AxisOptions y;
  y.ticks = 3;
  y.unit = kPercent;
  frame.y = LinearAxis(0, top, y);
  frame.y_title = "Share, %";

  std::string marks;
  if (!before.empty()) {
    marks += DrawLine(frame, Steps(histogram, before), "before");
  }
  if (!after.empty()) {
    marks += DrawLine(frame, Steps(histogram, after), "after");
  }
  absl::StrAppend(&marks, CutText(frame, histogram, after),
                  BinMarks(frame, histogram, before, after));
  return DrawChart(frame, marks);
}

std::string Group(const Json& histograms, absl::string_view id,
                  absl::string_view heading, absl::string_view x_title) {
  std::string charts;
  for (const Json& histogram : histograms) {
    charts += HistogramChart(histogram, id, x_title);
  }
  if (charts.empty()) return "";
  return absl::StrCat("<h3>", heading, "</h3>\n<p class=\"lead\">",
                      DrawLegend({{"before", "before"}, {"after", "after"}}),
                      "</p>\n<div class=\"grid small\">\n", charts, "</div>\n");
}

}  // namespace

std::string HistogramSection(const Json& report) {
  return HtmlSection(
      "values", "Values", "",
      absl::StrCat(Group(ListAt(report, "weight_histograms"), "weights",
                         "Weights", "Weight"),
                   Group(ListAt(report, "activation_histograms"), "activations",
                         "Activations", "Activation")));
}

}  // namespace qeff::internal_report
