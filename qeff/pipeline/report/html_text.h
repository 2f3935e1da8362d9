// SPDX-License-Identifier: Apache-2.0
//
// Text of anybody's as a part of an HTML page.

#ifndef QEFF_PIPELINE_REPORT_HTML_TEXT_H_
#define QEFF_PIPELINE_REPORT_HTML_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"
#include "qeff/util/json.h"

namespace qeff::internal_report {

// `text`, UTF-8, as the content of an element or of an attribute in quotes:
// whatever it holds, a browser shows it and does nothing else. Characters that
// HTML has no place for (controls but tab and newline) become U+FFFD.
std::string EscapeHtml(absl::string_view text);

// `value` as the content of a <script type="application/json">, which ends at
// the first "</script" and may not hold "<!--": every '<' is written \u003c,
// which in JSON is the same string. Numbers are the shortest that are read
// back as the same double; NaN and infinity are null.
std::string JsonForScript(const Json& value);

// A part of the page under a heading; `title` and `lead`, a sentence or two
// below it, are plain text, `body` is HTML. Empty when the body is.
std::string HtmlSection(absl::string_view id, absl::string_view title,
                        absl::string_view lead, absl::string_view body);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_HTML_TEXT_H_
