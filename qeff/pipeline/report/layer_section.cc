// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/layer_section.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/chart.h"
#include "qeff/pipeline/report/html_table.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

struct Measure {
  const char* key;
  const char* compared;  // with another member; null: with nothing
  const char* name;
  const char* lead;
};

constexpr Measure kMeasures[] = {
    {"relative_error", nullptr, "Relative error",
     "How far a layer's weights have moved: the norm of their change, relative "
     "to the weights before."},
    {"loss", "rounding_loss", "Loss",
     "Squared error of a layer's outputs, as the step measured it."},
};

constexpr Measure kSensitivity = {
    "sensitivity", nullptr, "Sensitivity",
    "KL divergence of the whole model, in nats a token, when these layers "
    "alone are rounded."};

struct Layer {
  std::string name;
  double block = 0;
  double value = 0;
  absl::optional<double> compared;
  absl::optional<double> bits;
};

struct Role {
  std::string name;
  std::vector<Layer> layers;
};

// The layers with a measure whose member `of` is `step`, roles in the order in
// which they occur.
std::vector<Role> RolesOf(const Json& layers, const char* of,
                          absl::string_view step, const Measure& measure) {
  std::vector<Role> roles;
  for (const Json& json : layers) {
    const absl::optional<double> value = NumberAt(json, measure.key);
    if (!value.has_value() || StringAt(json, of) != step) continue;
    Layer layer;
    layer.name = StringAt(json, "name");
    layer.value = *value;
    if (measure.compared != nullptr) {
      layer.compared = NumberAt(json, measure.compared);
    }
    layer.bits = NumberAt(json, "bits");
    std::string role = StringAt(json, "role");
    if (role.empty()) role = layer.name;
    auto it = std::find_if(roles.begin(), roles.end(),
                           [&](const Role& r) { return r.name == role; });
    if (it == roles.end()) it = roles.insert(roles.end(), Role{role, {}});
    const absl::optional<double> block = NumberAt(json, "block");
    layer.block = block.has_value() && *block >= 0 ? *block
                  : it->layers.empty()             ? 0
                                       : it->layers.back().block + 1;
    it->layers.push_back(layer);
  }
  return roles;
}

// The scale of all roles. Points are on a logarithm where they span much; bars
// begin at 0.
Axis ValueAxis(const std::vector<Role>& roles, bool bars) {
  std::vector<double> values;
  for (const Role& role : roles) {
    for (const Layer& layer : role.layers) {
      for (const absl::optional<double>& value :
           {absl::optional<double>(layer.value), layer.compared}) {
        // A logarithm has no place for 0, which is then drawn at the lower end.
        if (value.has_value() && (bars || *value > 0)) values.push_back(*value);
      }
    }
  }
  AxisOptions options;
  options.ticks = 3;
  if (!bars) return AxisOf(values, options);
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return LinearAxis(std::min(*low, 0.0), std::max(*high, 0.0), options);
}

std::string LayerMarks(const ChartFrame& frame, const Layer& layer,
                       absl::string_view step, const Measure& measure) {
  Mark mark;
  mark.title =
      absl::StrCat(layer.name, ": ", absl::AsciiStrToLower(measure.name), " ",
                   NumberText(layer.value));
  mark.data = {{"step", std::string(step)},
               {"layer", layer.name},
               {"value", layer.value}};
  if (layer.compared.has_value()) {
    absl::StrAppend(&mark.title, ", rounded to nearest ",
                    NumberText(*layer.compared));
  }
  if (layer.bits.has_value()) {
    absl::StrAppend(&mark.title, ", ", NumberText(*layer.bits),
                    " bits a weight");
  }
  if (measure.compared == nullptr) {
    mark.style = "bar";
    // Of few blocks no wider than a twelfth of the chart.
    const double half = std::min(0.4, (frame.x.high - frame.x.low) / 24);
    return DrawBar(frame, layer.block - half, 0, layer.block + half,
                   layer.value, mark);
  }
  std::string marks;
  mark.radius = 3.5;
  if (layer.compared.has_value()) {
    Mark other = mark;
    other.style = "point searched layer";
    other.data.back() = {"compared", *layer.compared};
    marks = DrawPoint(frame, layer.block, *layer.compared, other);
  }
  mark.style = "point layer";
  return marks + DrawPoint(frame, layer.block, layer.value, mark);
}

std::string MeasureCharts(const Json& layers, const char* of,
                          const std::string& step, const Measure& measure) {
  const std::vector<Role> roles = RolesOf(layers, of, step, measure);
  if (roles.empty()) return "";
  double last_block = 0;
  bool compared = false;
  for (const Role& role : roles) {
    for (const Layer& layer : role.layers) {
      last_block = std::max(last_block, layer.block);
      compared = compared || layer.compared.has_value();
    }
  }
  ChartFrame frame;
  frame.height = 110;
  frame.y = ValueAxis(roles, measure.compared == nullptr);
  frame.x_title = "Block";
  AxisOptions blocks;
  blocks.min_step = 1;
  blocks.round_ends = false;
  frame.x = LinearAxis(-0.5, last_block + 0.5, blocks);

  std::string html = absl::StrCat(
      "<h3>",
      EscapeHtml(
          step.empty()
              ? measure.name
              : absl::StrCat(step, ": ", absl::AsciiStrToLower(measure.name))),
      "</h3>\n<p class=\"lead\">", measure.lead,
      roles.size() > 1 ? " One scale for all roles." : "");
  if (compared) {
    html += DrawLegend(
        {{"point", "this step"}, {"point searched", "rounded to nearest"}});
  }
  html += "</p>\n<div class=\"grid small\">\n";
  for (const Role& role : roles) {
    frame.id =
        absl::StrCat("layers-", measure.key, "-",
                     step.empty() ? "" : absl::StrCat(step, "-"), role.name);
    frame.title = role.name;
    std::string marks;
    for (const Layer& layer : role.layers) {
      marks += LayerMarks(frame, layer, step, measure);
    }
    html += DrawChart(frame, marks);
  }
  return html + "</div>\n";
}

std::string Number(double value) { return NumberText(value); }

std::string Table(const Json& layers) {
  return absl::StrCat(
      "<details><summary>All layers (", layers.size(), ")</summary>\n",
      HtmlTable(layers,
                {{"bits", "Bits a weight", Number},
                 {"relative_error", "Relative error", Number},
                 {"loss", "Loss", Number},
                 {"rounding_loss", "Rounded to nearest", Number}},
                nullptr),
      "</details>\n");
}

// Charts and a table of `sensitivities`.
std::string Sensitivities(const Json& sensitivities) {
  std::string html;
  std::vector<std::string> schemes;
  for (const Json& part : sensitivities) {
    const std::string scheme = StringAt(part, "scheme");
    if (std::find(schemes.begin(), schemes.end(), scheme) != schemes.end()) {
      continue;
    }
    schemes.push_back(scheme);
    html += MeasureCharts(sensitivities, "scheme", scheme, kSensitivity);
  }
  if (html.empty()) return "";
  return absl::StrCat(
      html, "<details><summary>All parts (", sensitivities.size(),
      ")</summary>\n",
      HtmlTable(sensitivities, {{"sensitivity", "Sensitivity", Number}},
                nullptr),
      "</details>\n");
}

}  // namespace

std::string LayerSection(const Json& report) {
  const Json& layers = ListAt(report, "layers");
  std::vector<std::string> steps;
  for (const Json& layer : layers) {
    const std::string step = StringAt(layer, "step");
    if (std::find(steps.begin(), steps.end(), step) == steps.end()) {
      steps.push_back(step);
    }
  }
  std::string body;
  for (const std::string& step : steps) {
    for (const Measure& measure : kMeasures) {
      body += MeasureCharts(layers, "step", step, measure);
    }
  }
  if (!layers.empty()) body += Table(layers);
  return HtmlSection("layers", "Layers", "",
                     body + Sensitivities(ListAt(report, "sensitivities")));
}

}  // namespace qeff::internal_report
