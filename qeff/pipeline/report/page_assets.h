// SPDX-License-Identifier: Apache-2.0
//
// The style sheet and the script of the page.

#ifndef QEFF_PIPELINE_REPORT_PAGE_ASSETS_H_
#define QEFF_PIPELINE_REPORT_PAGE_ASSETS_H_

#include "absl/strings/string_view.h"

namespace qeff::internal_report {

// Light and dark, from a phone's width on, and for paper. Uses fonts that the
// reader's system has.
absl::string_view PageStyle();

// Shows the title of a mark at once, and on a touch; without it the browser
// does after a while.
absl::string_view PageScript();

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_PAGE_ASSETS_H_
