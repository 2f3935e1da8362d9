// SPDX-License-Identifier: Apache-2.0
//
// What the steps cost each layer.

#ifndef QEFF_PIPELINE_REPORT_LAYER_SECTION_H_
#define QEFF_PIPELINE_REPORT_LAYER_SECTION_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff::internal_report {

// Charts over the blocks of `layers` of `report`, for each step and measure one
// of each role, with one scale for all of them; and a table of all layers.
// Relative errors and sensitivities are bars; losses, which span orders of
// magnitude, points beside those of rounding. A layer without a block takes
// the next one of its role, one without a role has its name as role.
std::string LayerSection(const Json& report);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_LAYER_SECTION_H_
