// SPDX-License-Identifier: Apache-2.0
//
// A quantization plan for people.

#ifndef QEFF_QUANT_FORMAT_PLAN_H_
#define QEFF_QUANT_FORMAT_PLAN_H_

#include <string>

#include "qeff/quant/quantize_plan.h"

namespace qeff {

// A table of every tensor (shape, types, scheme, bits a weight, bytes, reason)
// with the totals and the layout, for a terminal.
std::string FormatPlan(const QuantizePlan& plan);

}  // namespace qeff

#endif  // QEFF_QUANT_FORMAT_PLAN_H_
