// SPDX-License-Identifier: Apache-2.0
//
// The same prompts, answered by the model before and after.

#ifndef QEFF_PIPELINE_REPORT_SAMPLE_SECTION_H_
#define QEFF_PIPELINE_REPORT_SAMPLE_SECTION_H_

#include <string>

#include "absl/strings/string_view.h"
#include "qeff/util/json.h"

namespace qeff::internal_report {

// Bytes from the front that both texts, UTF-8, have in whole characters.
size_t CommonPrefix(absl::string_view a, absl::string_view b);

// `samples` of `report`, answers side by side, marked from where they differ.
std::string SampleSection(const Json& report);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_SAMPLE_SECTION_H_
