// SPDX-License-Identifier: Apache-2.0
//
// Linear layers as compressed-tensors and qeff store them (the tables of
// qeff/format/README.md). quantized_tensor.h is the way to them; this is a part
// of it, as gptq_awq_tensor.h is for the other layouts.

#ifndef QEFF_IO_PACKED_TENSOR_H_
#define QEFF_IO_PACKED_TENSOR_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/quantized_matrix.h"
#include "qeff/io/weight_quantization.h"

namespace qeff {

// As ReadQuantizedMatrix of a layer that is stored as `weights` says.
// Precondition: not IsInputMajor(layout).
absl::StatusOr<QuantizedMatrix> ReadPackedTensor(
    const Checkpoint& checkpoint, absl::string_view module,
    QuantizedLayout layout, const WeightQuantization& weights);

}  // namespace qeff

#endif  // QEFF_IO_PACKED_TENSOR_H_
