// SPDX-License-Identifier: Apache-2.0
//
// A quantized layer as the tensors of another layout: the same codes, scales
// and zero points, in other places.

#ifndef QEFF_EXPORT_ENCODE_LAYER_H_
#define QEFF_EXPORT_ENCODE_LAYER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/export/stored_layer.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/checkpoint.h"

namespace qeff {

struct EncodedTensor {
  TensorInfo info;
  std::vector<uint8_t> bytes;
};

// The tensors that `layer`, read from `checkpoint`, becomes in `layout`,
// without its bias. Scales are F16 in GPTQ and AWQ, and keep their type in
// compressed-tensors. Precondition (checked): WhyNotHeld is empty, but for
// scales. Errors: those of Checkpoint::Get. Throws std::bad_alloc.
absl::StatusOr<std::vector<EncodedTensor>> EncodeLayer(
    const Checkpoint& checkpoint, const StoredLayer& layer,
    QuantizedLayout layout);

// Their names, types and shapes.
std::vector<TensorInfo> DeclareLayer(const Checkpoint& checkpoint,
                                     const StoredLayer& layer,
                                     QuantizedLayout layout);

}  // namespace qeff

#endif  // QEFF_EXPORT_ENCODE_LAYER_H_
