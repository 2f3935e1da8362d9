// SPDX-License-Identifier: Apache-2.0
//
// What was done, and what it cost.

#ifndef QEFF_PIPELINE_REPORT_STEP_SECTION_H_
#define QEFF_PIPELINE_REPORT_STEP_SECTION_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff::internal_report {

// Charts of the time and of the peak memory of each of `steps` of `report`, and
// a list of the steps with their arguments, what each made, and the plain
// values of its result.
std::string StepSection(const Json& report);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_STEP_SECTION_H_
