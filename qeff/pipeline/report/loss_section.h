// SPDX-License-Identifier: Apache-2.0
//
// Losses of the steps that train.

#ifndef QEFF_PIPELINE_REPORT_LOSS_SECTION_H_
#define QEFF_PIPELINE_REPORT_LOSS_SECTION_H_

#include <string>

#include "qeff/util/json.h"

namespace qeff::internal_report {

// A chart for each of `loss_curves` of `report`: the loss of training text, and
// of held-out text where it was measured.
std::string LossSection(const Json& report);

}  // namespace qeff::internal_report

#endif  // QEFF_PIPELINE_REPORT_LOSS_SECTION_H_
