// SPDX-License-Identifier: Apache-2.0
//
// The first screen: what came out, and what it was made of.

#ifndef QEFF_PIPELINE_REPORT_SUMMARY_H_
#define QEFF_PIPELINE_REPORT_SUMMARY_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff::internal_report {

// Name of the model and a few figures: of the first of `models` of `report`
// and the last, or the first and last size of `steps`; time and memory of all
// steps.
std::string Summary(const Json& report);

// `recipe` as it was written.
std::string RecipeSection(const Json& report);

// `environment`, a table.
std::string EnvironmentSection(const Json& report);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_SUMMARY_H_
