// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/optimizer.h"

#include <cmath>
#include <limits>

#include "qeff/train/adafactor.h"
#include "qeff/train/adamw.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::Status CheckBeta(absl::string_view name, double beta) {
  if (beta >= 0 && beta < 1) return absl::OkStatus();  // false for NaN
  return InvalidInputError(
      name, ": expected a number from 0 to below 1, found ", beta);
}

absl::Status CheckOptions(const OptimizerOptions& options) {
  if (!(options.weight_decay >= 0) || !std::isfinite(options.weight_decay)) {
    return InvalidInputError("weight decay: expected 0 or more, found ",
                             options.weight_decay);
  }
  QEFF_RETURN_IF_ERROR(CheckBeta("beta1", options.beta1));
  QEFF_RETURN_IF_ERROR(CheckBeta("beta2", options.beta2));
  using Limits = std::numeric_limits<float>;
  if (!(options.epsilon >= Limits::min() && options.epsilon <= Limits::max())) {
    return InvalidInputError("epsilon: expected a positive float32, found ",
                             options.epsilon);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OptimizerKind> ParseOptimizerKind(absl::string_view name) {
  for (const OptimizerKind kind :
       {OptimizerKind::kAdamW, OptimizerKind::kAdafactor}) {
    if (name == OptimizerKindName(kind)) return kind;
  }
  return InvalidInputError("\"", name, "\": expected adamw or adafactor");
}

absl::string_view OptimizerKindName(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kAdamW:
      return "adamw";
    case OptimizerKind::kAdafactor:
      return "adafactor";
  }
  QEFF_CHECK(false && "unknown optimizer");
}

absl::StatusOr<std::unique_ptr<Optimizer>> Optimizer::Create(
    const OptimizerOptions& options,
    const std::vector<ParameterShape>& shapes) {
  QEFF_RETURN_IF_ERROR(CheckOptions(options));
  for (const ParameterShape& shape : shapes) {
    QEFF_CHECK(shape.rows > 0 && shape.cols > 0);
  }
  std::unique_ptr<Optimizer> optimizer;
  switch (options.kind) {
    case OptimizerKind::kAdamW:
      optimizer = std::make_unique<AdamW>(options, shapes);
      break;
    case OptimizerKind::kAdafactor:
      optimizer = std::make_unique<Adafactor>(options, shapes);
      break;
  }
  return optimizer;
}

}  // namespace qeff
