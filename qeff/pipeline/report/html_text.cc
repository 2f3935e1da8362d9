// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/html_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace qeff::internal_report {

std::string EscapeHtml(absl::string_view text) {
  std::string html;
  html.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default:
        if ((c >= 0 && c < 0x20 && c != '\t' && c != '\n') || c == 0x7f) {
          html += "\xEF\xBF\xBD";
        } else {
          html += c;
        }
    }
  }
  return html;
}

std::string JsonForScript(const Json& value) {
  return absl::StrReplaceAll(
      value.dump(-1, ' ', false, Json::error_handler_t::replace),
      {{"<", "\\u003c"}});
}

std::string HtmlSection(absl::string_view id, absl::string_view title,
                        absl::string_view lead, absl::string_view body) {
  if (body.empty()) return "";
  std::string html = absl::StrCat("<section id=\"", id, "\">\n<h2>",
                                  EscapeHtml(title), "</h2>\n");
  if (!lead.empty()) {
    absl::StrAppend(&html, "<p class=\"lead\">", EscapeHtml(lead), "</p>\n");
  }
  absl::StrAppend(&html, body, "</section>\n");
  return html;
}

}  // namespace qeff::internal_report
