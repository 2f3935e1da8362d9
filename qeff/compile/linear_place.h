// SPDX-License-Identifier: Apache-2.0
//
// Where the weights of a linear layer are in a checkpoint.

#ifndef QEFF_COMPILE_LINEAR_PLACE_H_
#define QEFF_COMPILE_LINEAR_PLACE_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "qeff/device/package/model_tensors.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/transformer/model_map.h"

namespace qeff {

// Where rows of a matrix begin in a module of the checkpoint.
struct ModuleRow {
  const LinearModule* module;
  int64_t first_row;
};

// The module of `block` that holds `role`: its own, or the fused one.
absl::optional<ModuleRow> FindModule(const BlockNames& block,
                                     const TransformerSpec& spec,
                                     LinearRole role);

// Rows [first, first + count) of a quantized matrix, borrowed.
QuantizedRowsView RowsOf(const QuantizedMatrix& matrix, int64_t first,
                         int64_t count);

// The linear layer that a matrix of a block, or lm_head, is the weight of.
// Precondition (checked): it is one.
LinearRole LinearOf(TensorRole role);

}  // namespace qeff

#endif  // QEFF_COMPILE_LINEAR_PLACE_H_
