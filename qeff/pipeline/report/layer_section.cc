// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/layer_section.h"

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

struct Measure {
  const char* key;
  const char* heading;
  const char* lead;
  const char* axis;
};

constexpr Measure kMeasures[] = {
    {"relative_error", "Relative error",
     "Squared error of a layer's outputs, relative to that of no layer at all; "
     "one scale for all roles.",
     "Relative error"},
    {"sensitivity", "Sensitivity",
     "KL divergence of the model when this layer alone is quantized; one scale "
     "for all roles.",
     "Sensitivity"},
};

struct Layer {
  std::string name;
  double block = 0;
  double value = 0;
  absl::optional<double> bits;
};

struct Role {
  std::string name;
  std::vector<Layer> layers;
};

// Those with the measure, roles in the order in which they occur.
std::vector<Role> RolesOf(const Json& layers, const char* key) {
  std::vector<Role> roles;
  for (const Json& layer : layers) {
    const absl::optional<double> value = NumberAt(layer, key);
    if (!value.has_value()) continue;
    const std::string name = StringAt(layer, "name");
    std::string role = StringAt(layer, "role");
    if (role.empty()) role = name;
    auto it = std::find_if(roles.begin(), roles.end(),
                           [&](const Role& r) { return r.name == role; });
    if (it == roles.end()) it = roles.insert(roles.end(), Role{role, {}});
    const double next = it->layers.empty() ? 0 : it->layers.back().block + 1;
    it->layers.push_back({name, NumberAt(layer, "block").value_or(next), *value,
                          NumberAt(layer, "bits")});
  }
  return roles;
}

std::string RoleChart(const Role& role, const Measure& measure, const Axis& y,
                      double last_block) {
  ChartFrame frame;
  frame.id = absl::StrCat("layers-", measure.key, "-", role.name);
  frame.title = role.name;
  frame.height = 110;
  frame.y = y;
  frame.x_title = "Block";
  AxisOptions blocks;
  blocks.min_step = 1;
  blocks.round_ends = false;
  frame.x = LinearAxis(-0.5, last_block + 0.5, blocks);
  std::string marks;
  for (const Layer& layer : role.layers) {
    Mark mark;
    mark.style = "bar";
    mark.title = absl::StrCat(layer.name, ": ", measure.axis, " ",
                              NumberText(layer.value));
    if (layer.bits.has_value()) {
      absl::StrAppend(&mark.title, ", ", NumberText(*layer.bits),
                      " bits a weight");
    }
    mark.data = {{"layer", layer.name}, {"value", layer.value}};
    marks += DrawBar(frame, layer.block - 0.4, y.log ? y.low : 0,
                     layer.block + 0.4, layer.value, mark);
  }
  return DrawChart(frame, marks);
}

std::string MeasureCharts(const Json& layers, const Measure& measure) {
  const std::vector<Role> roles = RolesOf(layers, measure.key);
  if (roles.empty()) return "";
  double highest = 0;
  double lowest = 0;
  double last_block = 0;
  for (const Role& role : roles) {
    for (const Layer& layer : role.layers) {
      highest = std::max(highest, layer.value);
      lowest = std::min(lowest, layer.value);
      last_block = std::max(last_block, layer.block);
    }
  }
  AxisOptions options;
  options.ticks = 3;
  const Axis y = LinearAxis(lowest, highest, options);
  std::string html =
      absl::StrCat("<h3>", measure.heading, "</h3>\n<p class=\"lead\">",
                   measure.lead, "</p>\n<div class=\"grid small\">\n");
  for (const Role& role : roles) {
    html += RoleChart(role, measure, y, last_block);
  }
  return html + "</div>\n";
}

std::string Table(const Json& layers) {
  std::string html = absl::StrCat(
      "<details><summary>All layers (", layers.size(),
      ")</summary>\n<div class=\"wide\"><table>\n<thead><tr><th>Layer</th>"
      "<th>Bits a weight</th><th>Relative error</th><th>Sensitivity</th></tr>"
      "</thead>\n<tbody>\n");
  for (const Json& layer : layers) {
    absl::StrAppend(&html, "<tr><th scope=\"row\">",
                    EscapeHtml(StringAt(layer, "name")), "</th>");
    for (const char* key : {"bits", "relative_error", "sensitivity"}) {
      const absl::optional<double> value = NumberAt(layer, key);
      absl::StrAppend(&html, "<td>",
                      value.has_value() ? NumberText(*value) : "–", "</td>");
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div></details>\n";
}

}  // namespace

std::string LayerSection(const Json& report) {
  const Json& layers = ListAt(report, "layers");
  if (layers.empty()) return "";
  std::string body;
  for (const Measure& measure : kMeasures) {
    body += MeasureCharts(layers, measure);
  }
  return HtmlSection("layers", "Layers", "", body + Table(layers));
}

}  // namespace qeff::internal_report
