// SPDX-License-Identifier: Apache-2.0
//
// The tensors that a quantized layer is made of, checked one by one. Errors
// name file, tensor, what was expected and what was found.

#ifndef QEFF_IO_LAYER_TENSORS_H_
#define QEFF_IO_LAYER_TENSORS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/io/checkpoint.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Keeps products with bits and group counts far from overflow.
inline constexpr int64_t kMaxLayerSide = int64_t{1} << 40;

// The tensor `name`, which must have this type. Errors: kNotFound;
// kInvalidArgument.
absl::StatusOr<TensorView> GetOfType(const Checkpoint& checkpoint,
                                     const std::string& name, DType dtype);

// kInvalidArgument unless `view`, the tensor `name`, has this shape.
absl::Status ExpectShape(const Checkpoint& checkpoint, const std::string& name,
                         const TensorView& view, const Shape& expected);

// Finite numbers of F16, BF16 or F32. Errors: kNotFound; kInvalidArgument.
absl::StatusOr<TensorView> GetScales(const Checkpoint& checkpoint,
                                     const std::string& name,
                                     const Shape& shape);

// The group of each column, as the I32 tensor `name` [cols] says, of GPTQ's
// activation order; null when it is c / group_elems, as without the tensor, or
// when all are -1, which means that nothing was ordered. Errors:
// kInvalidArgument for a group outside [0, groups).
absl::StatusOr<std::shared_ptr<const std::vector<int32_t>>> GetGroupIndex(
    const Checkpoint& checkpoint, const std::string& name, int64_t cols,
    int64_t group_elems, int64_t groups);

}  // namespace qeff

#endif  // QEFF_IO_LAYER_TENSORS_H_
