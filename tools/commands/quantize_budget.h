// SPDX-License-Identifier: Apache-2.0
//
// `qeff quantize --budget`: measures what schemes lose, and chooses.

#ifndef QEFF_TOOLS_COMMANDS_QUANTIZE_BUDGET_H_
#define QEFF_TOOLS_COMMANDS_QUANTIZE_BUDGET_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/budget.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/transformer.h"
#include "tools/command.h"

namespace qeff {

// Gives the layers of the blocks that `options` quantizes schemes of their own
// from `schemes`, within `budget`, and prints a table of them. `scratch_path`:
// as SensitivityOptions. Errors: those of the measurement and the choice;
// kCancelled after a signal.
absl::Status SpendBudget(const std::shared_ptr<const Transformer>& model,
                         const Budget& budget,
                         absl::Span<const QuantScheme> schemes,
                         const TokenSample& sample,
                         const std::string& scratch_path, const CommandEnv& env,
                         QuantizeOptions* options);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_QUANTIZE_BUDGET_H_
