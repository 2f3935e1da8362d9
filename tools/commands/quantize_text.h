// SPDX-License-Identifier: Apache-2.0
//
// What `qeff quantize` says, on the terminal and as JSON.

#ifndef QEFF_TOOLS_COMMANDS_QUANTIZE_TEXT_H_
#define QEFF_TOOLS_COMMANDS_QUANTIZE_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "qeff/quant/calibrated_quantize.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/quantize_report.h"
#include "qeff/util/json.h"

namespace qeff {

// What the flag's help says of schemes.
std::string SchemeHelp();

// "skipped" lists the layers of SkippedWarning.
Json PlanJson(const QuantizePlan& plan);

// Names layers that are kept for weights that are not finite; empty without.
std::string SkippedWarning(const QuantizePlan& plan);

// Names the first layer that was rounded for inputs that are not finite, and
// says how many were; empty without.
std::string BadInputsWarning(const std::vector<LayerReport>& layers);

// What a run on `tokens` tokens will take.
std::string FormatEstimate(const RunEstimate& estimate, int64_t tokens);

// What its parts took, and their rates.
std::string FormatTimes(const CalibratedQuantizeResult& result);

// Seconds of the parts of a walk.
Json TimesJson(const WalkTimes& times);

// Adds layers, times and warnings.
void AddResult(const CalibratedQuantizeResult& result, Json* json);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_QUANTIZE_TEXT_H_
