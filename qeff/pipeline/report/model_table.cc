// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/model_table.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/html_table.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

std::string Number(double value) { return NumberText(value); }

// "4.1× smaller", "+2.3 %", or nothing.
std::string Change(const Json& first, const Json& model,
                   absl::string_view key) {
  if (key != "bytes" && key != "perplexity") return "";
  const std::string name(key);
  const absl::optional<double> before = NumberAt(first, name.c_str());
  const absl::optional<double> after = NumberAt(model, name.c_str());
  if (!before.has_value() || !after.has_value() || *before == *after) return "";
  if (key == "bytes" && *after > 0 && *before > *after) {
    return absl::StrCat(NumberText(*before / *after, 3), "× smaller");
  }
  return ChangeText(*before, *after);
}

}  // namespace

std::string ModelTable(const Json& models) {
  return HtmlTable(models,
                   {{"bytes", "Size", BytesText},
                    {"bits_per_weight", "Bits a weight", Number},
                    {"perplexity", "Perplexity", Number},
                    {"kl_mean", "KL divergence", Number},
                    {"top1_agreement", "Same top token", PercentText}},
                   [&](const Json& model, const char* key) {
                     return Change(models.front(), model, key);
                   });
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
