// SPDX-License-Identifier: Apache-2.0
//
// Size against quality of every evaluated model.

#ifndef QEFF_PIPELINE_REPORT_FRONT_SECTION_H_
#define QEFF_PIPELINE_REPORT_FRONT_SECTION_H_

#include <string>
#include <vector>

#include "qeff/pipeline/report/chart.h"
#include "qeff/util/json.h"

namespace qeff::internal_report {

// Indices of the points than which no other is better (smaller) in one
// coordinate and at least as good in the other, by ascending x. Of equal ones
// the first.
std::vector<size_t> NonDominated(const std::vector<ChartPoint>& points);

// A chart for each of perplexity and KL divergence that a model has, and tables
// of `models` and `front` of `report`.
std::string FrontSection(const Json& report);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_FRONT_SECTION_H_
