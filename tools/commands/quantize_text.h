// SPDX-License-Identifier: Apache-2.0
//
// What `qeff quantize` says, on the terminal and as JSON.

#ifndef QEFF_TOOLS_COMMANDS_QUANTIZE_TEXT_H_
#define QEFF_TOOLS_COMMANDS_QUANTIZE_TEXT_H_

#include <cstdint>
#include <string>

#include "qeff/quant/calibrated_quantize.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/util/json.h"

namespace qeff {

Json PlanJson(const QuantizePlan& plan);

// What a run on `tokens` tokens will take.
std::string FormatEstimate(const CalibratedQuantizeEstimate& estimate,
                           int64_t tokens);

// What its parts took, and their rates.
std::string FormatTimes(const CalibratedQuantizeResult& result);

// Adds layers, times and warnings.
void AddResult(const CalibratedQuantizeResult& result, Json* json);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_QUANTIZE_TEXT_H_
