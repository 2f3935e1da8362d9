// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/step_section.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/chart.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

// Of a row: its text above its bar.
constexpr int kRowHeight = 40;
constexpr int kBarTop = 20;
constexpr int kBarHeight = 10;

struct Measure {
  const char* key;
  const char* id;
  const char* title;
  Unit (*unit)(double value);
  std::string (*text)(double value);
};

constexpr Measure kMeasures[] = {
    {"seconds", "steps-time", "Time", SecondsUnit, SecondsText},
    {"peak_bytes", "steps-memory", "Peak memory", BytesUnit, BytesText},
};

std::string CostChart(const Json& steps, const Measure& measure) {
  double largest = 0;
  int rows = 0;
  for (const Json& step : steps) {
    const absl::optional<double> value = NumberAt(step, measure.key);
    if (!value.has_value()) continue;
    largest = std::max(largest, *value);
    ++rows;
  }
  if (rows == 0) return "";
  ChartFrame frame;
  frame.id = measure.id;
  frame.title = measure.title;
  frame.y_ticks = false;
  frame.height = rows * kRowHeight;
  const Unit unit = measure.unit(largest);
  AxisOptions options;
  options.ticks = 4;
  options.unit = unit.size;
  frame.x = LinearAxis(0, largest, options);
  frame.x_title = absl::StrCat(measure.title, ", ", unit.name);
  std::string marks;
  int top = 0;
  for (const Json& step : steps) {
    const absl::optional<double> value = NumberAt(step, measure.key);
    if (!value.has_value()) continue;
    const std::string name = StringAt(step, "name");
    const bool cached = FlagAt(step, "from_cache");
    const std::string text = measure.text(*value);
    marks += DrawText(0, top, 0, 14, "start", "label",
                      absl::StrCat(name, cached ? " (cached)" : ""));
    marks += DrawText(1, top, 0, 14, "end", "tick", text);
    Mark mark;
    mark.style = cached ? "bar cached" : "bar";
    mark.title = absl::StrCat(name, ": ", text);
    mark.data = {{"step", name}, {"value", *value}};
    marks += DrawRowBar(frame, 0, *value, top + kBarTop, kBarHeight, mark);
    top += kRowHeight;
  }
  return DrawChart(frame, marks);
}

// "9.1 MB · 4.5 bits a weight · ...": what the step made and cost.
std::string Facts(const Json& step) {
  std::vector<std::string> facts;
  const auto add = [&](const char* key, std::string (*text)(double),
                       const char* after) {
    const absl::optional<double> value = NumberAt(step, key);
    if (value.has_value()) facts.push_back(absl::StrCat(text(*value), after));
  };
  const auto number = [](double value) { return NumberText(value); };
  add("bytes", BytesText, "");
  add("bits_per_weight", number, " bits a weight");
  add("parameters", CountText, " parameters");
  add("seconds", SecondsText, "");
  add("peak_bytes", BytesText, " at the peak");
  const std::string hash = StringAt(step, "hash");
  if (!hash.empty()) facts.push_back(hash);
  return EscapeHtml(absl::StrJoin(facts, " · "));
}

// The members of a result that are no lists or objects.
std::string PlainResults(const Json& result) {
  if (!result.is_object()) return "";
  std::string rows;
  for (const auto& [key, value] : result.items()) {
    if (value.is_structured() || value.is_null()) continue;
    const std::string text = value.is_number_float()
                                 ? NumberText(value.get<double>())
                             : value.is_string() ? value.get<std::string>()
                                                 : value.dump();
    absl::StrAppend(&rows, "<dt>", EscapeHtml(key), "</dt><dd>",
                    EscapeHtml(text), "</dd>\n");
  }
  if (rows.empty()) return "";
  return absl::StrCat("<details><summary>Result</summary><dl>\n", rows,
                      "</dl></details>\n");
}

std::string StepItem(const Json& step) {
  std::string html =
      absl::StrCat("<li><b>", EscapeHtml(StringAt(step, "name")), "</b>");
  const std::string kind = StringAt(step, "kind");
  if (!kind.empty()) {
    absl::StrAppend(&html, " <span class=\"tag\">", EscapeHtml(kind),
                    "</span>");
  }
  if (FlagAt(step, "from_cache")) {
    html += " <span class=\"tag\">from the cache</span>";
  }
  std::string arguments;
  for (const Json& argument : ListAt(step, "arguments")) {
    if (!argument.is_string()) continue;
    absl::StrAppend(&arguments, "<code>",
                    EscapeHtml(argument.get<std::string>()), "</code> ");
  }
  if (!arguments.empty()) absl::StrAppend(&html, "<p>", arguments, "</p>");
  const std::string facts = Facts(step);
  if (!facts.empty())
    absl::StrAppend(&html, "<p class=\"lead\">", facts, "</p>");
  return absl::StrCat(html, "\n", PlainResults(MemberAt(step, "result")),
                      "</li>\n");
}

}  // namespace

std::string StepSection(const Json& report) {
  const Json& steps = ListAt(report, "steps");
  if (steps.empty()) return "";
  std::string charts;
  for (const Measure& measure : kMeasures) {
    charts += CostChart(steps, measure);
  }
  std::string body;
  if (!charts.empty()) {
    body = absl::StrCat("<div class=\"grid\">\n", charts, "</div>\n");
  }
  body += "<ol class=\"steps\">\n";
  for (const Json& step : steps) body += StepItem(step);
  return HtmlSection("steps", "Steps", "", body + "</ol>\n");
}

}  // namespace qeff::internal_report
