// SPDX-License-Identifier: Apache-2.0
//
// Whether stored weights are finite, tensor by tensor.

#ifndef QEFF_QUANT_FINITE_WEIGHTS_H_
#define QEFF_QUANT_FINITE_WEIGHTS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/io/checkpoint.h"

namespace qeff {

// The index of the first element of tensor `name`, of a floating type, that is
// NaN or infinite. Reads it once and lets go of its pages. Precondition
// (checked): IsFloating. Errors: those of Checkpoint::Get. Thread-safe.
absl::StatusOr<absl::optional<int64_t>> FirstNotFinite(
    const Checkpoint& checkpoint, const std::string& name);

// "element [3, 7] is NaN or infinite" for index `flat` of a tensor with
// `shape`.
std::string NotFiniteText(const Shape& shape, int64_t flat);

}  // namespace qeff

#endif  // QEFF_QUANT_FINITE_WEIGHTS_H_
