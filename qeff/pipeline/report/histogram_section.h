// SPDX-License-Identifier: Apache-2.0
//
// How values are distributed, before and after.

#ifndef QEFF_PIPELINE_REPORT_HISTOGRAM_SECTION_H_
#define QEFF_PIPELINE_REPORT_HISTOGRAM_SECTION_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff::internal_report {

// A chart for each role in `weight_histograms` and `activation_histograms` of
// `report`: shares of all values by bin. What is more than twice as high as
// all of `before`, as the zeros of pruning are, ends at the upper edge with its
// share written there.
std::string HistogramSection(const Json& report);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_HISTOGRAM_SECTION_H_
