// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/summary.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/number_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

std::string Card(absl::string_view title, absl::string_view value,
                 absl::string_view note) {
  return absl::StrCat("<div class=\"card\"><h3>", title, "</h3><p>", value,
                      "</p><small>", note, "</small></div>\n");
}

// Of a size or perplexity before and after.
std::string ChangeCard(absl::string_view title, const Json& before,
                       const Json& after, const char* key,
                       std::string (*text)(double)) {
  const absl::optional<double> last = NumberAt(after, key);
  if (!last.has_value()) return "";
  const absl::optional<double> first = NumberAt(before, key);
  if (!first.has_value() || &before == &after) {
    return Card(title, text(*last), "");
  }
  const bool smaller = absl::string_view(key) == "bytes" && *last > 0;
  return Card(
      title, text(*last),
      absl::StrCat(
          "from ", text(*first), " (", smaller ? "÷\u00A0" : "",
          smaller ? NumberText(*first / *last, 3) : ChangeText(*first, *last),
          ")"));
}

std::string Number(double value) { return NumberText(value); }

std::string QualityCards(const Json& report) {
  const Json& models = ListAt(report, "models");
  if (!models.empty()) {
    const Json& first = models.front();
    const Json& last = models.back();
    std::string cards = ChangeCard("Size", first, last, "bytes", BytesText);
    cards += ChangeCard("Perplexity", first, last, "perplexity", Number);
    const absl::optional<double> kl = NumberAt(last, "kl_mean");
    if (kl.has_value()) {
      cards += Card("KL divergence", NumberText(*kl), "nats a token");
    }
    const absl::optional<double> same = NumberAt(last, "top1_agreement");
    if (same.has_value()) {
      cards += Card("Same top token", PercentText(*same), "of all tokens");
    }
    return cards;
  }
  // Nothing was evaluated.
  for (const Json& step : ListAt(report, "steps")) {
    if (!NumberAt(step, "bytes").has_value()) continue;
    const Json& steps = ListAt(report, "steps");
    const auto last = std::find_if(
        steps.rbegin(), steps.rend(),
        [](const Json& s) { return NumberAt(s, "bytes").has_value(); });
    return ChangeCard("Size", step, *last, "bytes", BytesText);
  }
  return "";
}

std::string CostCard(const Json& report) {
  const Json& steps = ListAt(report, "steps");
  absl::optional<double> seconds;
  double peak_bytes = 0;
  for (const Json& step : steps) {
    const absl::optional<double> time = NumberAt(step, "seconds");
    if (time.has_value()) seconds = seconds.value_or(0) + *time;
    peak_bytes = std::max(peak_bytes, NumberAt(step, "peak_bytes").value_or(0));
  }
  if (!seconds.has_value()) return "";
  return Card(
      "Time", SecondsText(*seconds),
      peak_bytes > 0 ? absl::StrCat(BytesText(peak_bytes), " of memory") : "");
}

}  // namespace

std::string Summary(const Json& report) {
  const std::string model = StringAt(report, "model");
  absl::string_view name = absl::StripSuffix(model, "/");
  name.remove_prefix(name.rfind('/') + 1);  // all of it where there is none
  std::string html = "<header>\n<p class=\"brand\">qeff optimize</p>\n";
  absl::StrAppend(&html, "<h1>",
                  EscapeHtml(name.empty() ? "Optimized model" : name),
                  "</h1>\n");
  if (name != model) {
    absl::StrAppend(&html, "<p class=\"lead\">", EscapeHtml(model), "</p>\n");
  }
  const std::string cards =
      absl::StrCat(QualityCards(report), CostCard(report));
  if (!cards.empty()) {
    absl::StrAppend(&html, "<div class=\"cards\">\n", cards, "</div>\n");
  }
  return html + "</header>\n";
}

std::string RecipeSection(const Json& report) {
  const std::string recipe = StringAt(report, "recipe");
  if (recipe.empty()) return "";
  return HtmlSection("recipe", "Recipe", "",
                     absl::StrCat("<pre>", EscapeHtml(recipe), "</pre>\n"));
}

std::string EnvironmentSection(const Json& report) {
  const Json& environment = MemberAt(report, "environment");
  if (!environment.is_object() || environment.empty()) return "";
  std::string rows;
  for (const auto& [key, value] : environment.items()) {
    const std::string text =
        value.is_string() ? value.get<std::string>() : value.dump();
    absl::StrAppend(&rows, "<tr><th scope=\"row\">", EscapeHtml(key),
                    "</th><td>", EscapeHtml(text), "</td></tr>\n");
  }
  return HtmlSection("environment", "Environment", "",
                     absl::StrCat("<table class=\"facts\"><tbody>\n", rows,
                                  "</tbody></table>\n"));
}

}  // namespace qeff::internal_report
