// SPDX-License-Identifier: Apache-2.0
//
// What quantization cost each layer.

#ifndef QEFF_PIPELINE_REPORT_LAYER_SECTION_H_
#define QEFF_PIPELINE_REPORT_LAYER_SECTION_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff::internal_report {

// Bars over the blocks, a chart for each role with one scale for all, of the
// relative errors and of the sensitivities in `layers` of `report`; and a table
// of all layers. A layer without a block takes the next one of its role, one
// without a role has its name as role.
std::string LayerSection(const Json& report);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_LAYER_SECTION_H_
