// SPDX-License-Identifier: Apache-2.0
//
// Evaluated models as tables.

#ifndef QEFF_PIPELINE_REPORT_MODEL_TABLE_H_
#define QEFF_PIPELINE_REPORT_MODEL_TABLE_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff::internal_report {

// One row for each of `models`, an array; columns that none has are left out.
// Changes are those from the first one. Empty without models.
std::string ModelTable(const Json& models);

// Folded: what a search has seen, with the recipe of each. Empty without any.
std::string SearchTable(const Json& front);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_MODEL_TABLE_H_
