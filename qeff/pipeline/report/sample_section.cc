// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/sample_section.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "qeff/pipeline/report/html_text.h"
#include "qeff/pipeline/report/report_json.h"

namespace qeff::internal_report {
namespace {

std::string Answer(absl::string_view title, absl::string_view text,
                   size_t same_bytes) {
  std::string html = absl::StrCat("<div><h4>", title, "</h4><p class=\"text\">",
                                  EscapeHtml(text.substr(0, same_bytes)));
  if (same_bytes < text.size()) {
    absl::StrAppend(&html, "<mark>", EscapeHtml(text.substr(same_bytes)),
                    "</mark>");
  }
  return html + "</p></div>\n";
}

}  // namespace

size_t CommonPrefix(absl::string_view a, absl::string_view b) {
  size_t end =
      std::mismatch(a.begin(), a.begin() + std::min(a.size(), b.size()),
                    b.begin())
          .first -
      a.begin();
  if (end == a.size() && end == b.size()) return end;
  // Back to where a character begins, in both.
  const auto continues = [](absl::string_view text, size_t i) {
    return i < text.size() && (text[i] & 0xC0) == 0x80;
  };
  while (end > 0 && (continues(a, end) || continues(b, end))) --end;
  return end;
}

std::string SampleSection(const Json& report) {
  std::string body;
  bool differs = false;
  for (const Json& sample : ListAt(report, "samples")) {
    const std::string texts[] = {StringAt(sample, "before"),
                                 StringAt(sample, "after")};
    absl::string_view before = texts[0];
    absl::string_view after = texts[1];
    // The space between the prompt and its answer.
    if (absl::StartsWith(before, " ") && absl::StartsWith(after, " ")) {
      before.remove_prefix(1);
      after.remove_prefix(1);
    }
    const size_t same = CommonPrefix(before, after);
    differs = differs || before != after;
    absl::StrAppend(&body, "<div class=\"sample\"><p class=\"prompt\">",
                    EscapeHtml(StringAt(sample, "prompt")),
                    "</p>\n<div class=\"grid\">\n",
                    Answer("Before", before, same),
                    Answer("After", after, same), "</div></div>\n");
  }
  return HtmlSection("samples", "Answers",
                     differs ? "Marked from where the two models part." : "",
                     body);
}

}  // namespace qeff::internal_report
