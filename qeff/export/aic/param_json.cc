// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/param_json.h"

#include "absl/strings/str_cat.h"

namespace qeff {
namespace {

// Keeps its keys sorted.
using SortedJson = nlohmann::json;

std::string Compact(const SortedJson& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true,
                    SortedJson::error_handler_t::replace);
}

// The library's own indented form has a space after each colon.
void AppendIndented(const SortedJson& value, size_t depth, std::string* text) {
  if (!value.is_structured() || value.empty()) {
    absl::StrAppend(text, Compact(value));
    return;
  }
  const std::string margin(4 * (depth + 1), ' ');
  const bool is_object = value.is_object();
  const char* separator = is_object ? "{\n" : "[\n";
  for (const auto& item : value.items()) {
    absl::StrAppend(text, separator, margin);
    if (is_object) absl::StrAppend(text, Compact(item.key()), ":");
    AppendIndented(item.value(), depth + 1, text);
    separator = ",\n";
  }
  absl::StrAppend(text, "\n", std::string(4 * depth, ' '),
                  is_object ? "}" : "]");
}

}  // namespace

std::string IndentedJson(const Json& value) {
  std::string text;
  AppendIndented(SortedJson(value), 0, &text);
  return text;
}

std::string CompactJson(const Json& value) {
  return Compact(SortedJson(value));
}

}  // namespace qeff
