// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/model_table.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

struct Column {
  const char* key;
  const char* title;
  std::string (*text)(double value);
};

std::string Number(double value) { return NumberText(value); }

constexpr Column kColumns[] = {
    {"bytes", "Size", BytesText},
    {"bits_per_weight", "Bits a weight", Number},
    {"perplexity", "Perplexity", Number},
    {"kl_mean", "KL divergence", Number},
    {"top1_agreement", "Same top token", PercentText},
};

// "4.1× smaller", "+2.3 %", or nothing.
std::string Change(const Json& first, const Json& model, const char* key) {
  const absl::optional<double> before = NumberAt(first, key);
  const absl::optional<double> after = NumberAt(model, key);
  if (!before.has_value() || !after.has_value() || *before == *after) return "";
  const absl::string_view name = key;
  if (name == "bytes" && *after > 0 && *before > *after) {
    return absl::StrCat(NumberText(*before / *after, 3), "× smaller");
  }
  if (name == "bytes" || name == "perplexity") {
    return ChangeText(*before, *after);
  }
  return "";
}

std::string Row(const Json& first, const Json& model,
                const std::vector<Column>& columns) {
  std::string html = absl::StrCat(
      "<tr", FlagAt(model, "chosen") ? " class=\"chosen\"" : "",
      "><th scope=\"row\">", EscapeHtml(StringAt(model, "name")), "</th>");
  for (const Column& column : columns) {
    const absl::optional<double> value = NumberAt(model, column.key);
    absl::StrAppend(&html, "<td>",
                    value.has_value() ? column.text(*value) : "–");
    const std::string change = Change(first, model, column.key);
    if (!change.empty()) absl::StrAppend(&html, "<small>", change, "</small>");
    html += "</td>";
  }
  return html + "</tr>\n";
}

}  // namespace

std::string ModelTable(const Json& models) {
  if (models.empty()) return "";
  std::vector<Column> columns;
  for (const Column& column : kColumns) {
    const bool used =
        std::any_of(models.begin(), models.end(), [&](const Json& model) {
          return NumberAt(model, column.key).has_value();
        });
    if (used) columns.push_back(column);
  }
  std::string html = "<div class=\"wide\"><table>\n<thead><tr><th>Model</th>";
  for (const Column& column : columns) {
    absl::StrAppend(&html, "<th>", column.title, "</th>");
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const Json& model : models) html += Row(models[0], model, columns);
  return html + "</tbody></table></div>\n";
}

std::string SearchTable(const Json& front) {
  if (front.empty()) return "";
  std::string html =
      absl::StrCat("<details><summary>What the search has seen (", front.size(),
                   ")</summary>\n", ModelTable(front));
  for (const Json& candidate : front) {
    const std::string recipe = StringAt(candidate, "recipe");
    if (recipe.empty()) continue;
    absl::StrAppend(&html, "<details><summary>Recipe of ",
                    EscapeHtml(StringAt(candidate, "name")), "</summary><pre>",
                    EscapeHtml(recipe), "</pre></details>\n");
  }
  return html + "</details>\n";
}

}  // namespace qeff::internal_report
