// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/html_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {

std::string HtmlTable(
    const Json& items, const std::vector<TableColumn>& columns,
    const std::function<std::string(const Json& item, const char* key)>& note) {
  if (items.empty()) return "";
  std::vector<TableColumn> used;
  for (const TableColumn& column : columns) {
    const bool any =
        std::any_of(items.begin(), items.end(), [&](const Json& item) {
          return NumberAt(item, column.key).has_value();
        });
    if (any) used.push_back(column);
  }
  std::string html = "<div class=\"wide\"><table>\n<thead><tr><th>Name</th>";
  for (const TableColumn& column : used) {
    absl::StrAppend(&html, "<th>", EscapeHtml(column.title), "</th>");
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const Json& item : items) {
    absl::StrAppend(
        &html, "<tr", FlagAt(item, "chosen") ? " class=\"chosen\"" : "",
        "><th scope=\"row\">", EscapeHtml(StringAt(item, "name")), "</th>");
    for (const TableColumn& column : used) {
      const absl::optional<double> value = NumberAt(item, column.key);
      absl::StrAppend(
          &html, "<td>",
          value.has_value() ? EscapeHtml(column.text(*value)) : "–");
      const std::string second = note ? note(item, column.key) : "";
      if (!second.empty()) {
        absl::StrAppend(&html, "<small>", EscapeHtml(second), "</small>");
      }
      html += "</td>";
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

}  // namespace qeff::internal_report
