// SPDX-License-Identifier: Apache-2.0
//
// What --algorithm of `qeff quantize` may say, and what it means.

#ifndef QEFF_TOOLS_COMMANDS_QUANTIZE_ALGORITHM_H_
#define QEFF_TOOLS_COMMANDS_QUANTIZE_ALGORITHM_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/quant/awq_folds.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Steps, in the order that they are taken; without those that calibrate it is
// rounding.
struct QuantizeAlgorithm {
  bool rotate = false;
  Rounding rounding = Rounding::kRange;
  absl::optional<FoldSearch> folds;
  bool gptq = false;
  bool autoround = false;
  bool best = false;  // instead of the three above

  // Whether it needs calibration text.
  bool calibrates() const {
    return folds.has_value() || gptq || autoround || best;
  }
};

// Reads "rtn", "mse", "awq,gptq", ..., or "rotate," and one of these. Errors:
// kInvalidArgument, with all of them.
absl::StatusOr<QuantizeAlgorithm> ParseQuantizeAlgorithm(
    absl::string_view text);

// What the flag's help says.
std::string QuantizeAlgorithmHelp();

// `algorithm` with what measured best in place of `best`, if that is set, for
// the bits of `plan` (qeff/quant/README.md): awq gains nothing before gptq, and
// gptq nothing where inputs are rounded, too; autoround where it can be,
// however long it takes.
QuantizeAlgorithm WithBestSteps(QuantizeAlgorithm algorithm,
                                const Transformer& model,
                                const QuantizePlan& plan);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_QUANTIZE_ALGORITHM_H_
