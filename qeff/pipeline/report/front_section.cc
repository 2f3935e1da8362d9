// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/front_section.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/model_table.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/pipeline/report/point_labels.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

struct Measure {
  const char* key;
  const char* id;
  const char* title;
  const char* axis;
};

constexpr Measure kMeasures[] = {
    {"perplexity", "front-perplexity", "Size and perplexity", "Perplexity"},
    {"kl_mean", "front-kl", "Size and divergence",
     "KL divergence from the input, nats a token"},
};

struct Candidate {
  std::string name;
  double bytes = 0;
  double value = 0;
  bool searched = false;  // of a search, not a step of the recipe
  bool chosen = false;
};

// Those of `models` and `front` that have a size and the measure.
std::vector<Candidate> Candidates(const Json& report, const char* key) {
  std::vector<Candidate> candidates;
  for (const char* list : {"models", "front"}) {
    for (const Json& model : ListAt(report, list)) {
      const absl::optional<double> bytes = NumberAt(model, "bytes");
      const absl::optional<double> value = NumberAt(model, key);
      if (!bytes.has_value() || !value.has_value()) continue;
      Candidate candidate;
      candidate.name = StringAt(model, "name");
      candidate.bytes = *bytes;
      candidate.value = *value;
      candidate.searched = absl::string_view(list) == "front";
      candidate.chosen = FlagAt(model, "chosen");
      candidates.push_back(candidate);
    }
  }
  return candidates;
}

std::string Style(const Candidate& candidate, bool joined) {
  return absl::StrCat("point", candidate.searched ? " searched" : "",
                      candidate.chosen ? " chosen" : "", joined ? " best" : "");
}

std::string FrontChart(const Json& report, const Measure& measure) {
  const std::vector<Candidate> candidates = Candidates(report, measure.key);
  if (candidates.empty()) return "";
  std::vector<ChartPoint> points;
  std::vector<double> values;
  double largest = 0;
  for (const Candidate& candidate : candidates) {
    points.push_back({candidate.bytes, candidate.value});
    values.push_back(candidate.value);
    largest = std::max(largest, candidate.bytes);
  }
  const std::vector<size_t> best = NonDominated(points);

  ChartFrame frame;
  frame.id = measure.id;
  frame.title = measure.title;
  frame.note =
      "Left and down is better. The line joins those that no other "
      "model beats in both.";
  frame.height = 260;
  const Unit unit = BytesUnit(largest);
  AxisOptions bytes;
  bytes.unit = unit.size;
  frame.x = LinearAxis(0, largest, bytes);
  frame.x_title = absl::StrCat("Size, ", unit.name);
  frame.y = AxisOf(values);
  frame.y_title = measure.axis;
  const bool searched = std::any_of(
      candidates.begin(), candidates.end(),
      [](const Candidate& candidate) { return candidate.searched; });
  if (searched) {
    frame.legend = {{"point", "steps"},
                    {"point searched", "seen by the search"},
                    {"point searched chosen", "chosen"}};
  }

  std::vector<ChartPoint> line;
  std::vector<bool> joined(points.size());
  for (const size_t i : best) {
    line.push_back(points[i]);
    joined[i] = true;
  }
  std::string marks = DrawLine(frame, line, "front");
  PointLabels labels(frame, points, line);
  // Those worth a name first, while there is room.
  for (const bool searched_turn : {false, true}) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& candidate = candidates[i];
      const bool first = !candidate.searched || candidate.chosen;
      if (first == searched_turn) continue;
      if (!first && !joined[i]) continue;
      labels.Add(points[i], candidate.name);
    }
  }
  marks += labels.svg();
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    Mark mark;
    mark.style = Style(candidate, joined[i]);
    if (candidate.searched) mark.radius = candidate.chosen ? 6 : 4;
    mark.title = absl::StrCat(
        candidate.name, ": ", BytesText(candidate.bytes), ", ",
        measure.key == kMeasures[0].key ? "perplexity " : "KL divergence ",
        NumberText(candidate.value));
    mark.data = {{"name", candidate.name},
                 {"bytes", candidate.bytes},
                 {"value", candidate.value}};
    marks += DrawPoint(frame, candidate.bytes, candidate.value, mark);
  }
  return DrawChart(frame, marks);
}

}  // namespace

std::vector<size_t> NonDominated(const std::vector<ChartPoint>& points) {
  std::vector<size_t> order(points.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return points[a].x != points[b].x ? points[a].x < points[b].x
                                      : points[a].y < points[b].y;
  });
  std::vector<size_t> best;
  double lowest = std::numeric_limits<double>::infinity();
  for (const size_t i : order) {
    if (points[i].y >= lowest) continue;
    lowest = points[i].y;
    best.push_back(i);
  }
  return best;
}

std::string FrontSection(const Json& report) {
  std::string charts;
  for (const Measure& measure : kMeasures) {
    charts += FrontChart(report, measure);
  }
  std::string body;
  if (!charts.empty()) {
    body = absl::StrCat("<div class=\"grid\">\n", charts, "</div>\n");
  }
  absl::StrAppend(&body, ModelTable(ListAt(report, "models")),
                  SearchTable(ListAt(report, "front")));
  return HtmlSection("front", "Size and quality", "", body);
}

}  // namespace qeff::internal_report
