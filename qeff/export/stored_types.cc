// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/stored_types.h"

#include "qeff/export/ggml_repack.h"
#include "qeff/export/stored_layer.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/quantization_config.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<StoredTypes> FindStoredTypes(const Transformer& model) {
  StoredTypes stored;
  for (const LinearModule& module : model.map().Linears()) {
    if (!IsStoredQuantized(model, module)) continue;
    const auto weights = model.quantization()->Find(module.module);
    QEFF_ASSIGN_OR_RETURN(const QuantizedMatrix matrix,
                          ReadQuantizedMatrix(model.checkpoint(), module.module,
                                              *model.quantization()));
    const auto type = FindRepackType(matrix);
    if (type.ok()) {
      stored[module.module] = *type;
      continue;
    }
    const bool fits_compressed_tensors =
        WhyNotCompressedTensors(weights->ToScheme(), matrix.cols,
                                module.transposed)
            .empty();
    return InvalidInputError(
        model.checkpoint().folder(), ": ", type.status().message(), "; ",
        fits_compressed_tensors ? "compressed-tensors can hold it, and " : "",
        "requantize rounds the layer again");
  }
  return stored;
}

}  // namespace qeff
