// SPDX-License-Identifier: Apache-2.0
//
// Which layers of a model go into a GGUF file as they are stored.

#ifndef QEFF_EXPORT_STORED_TYPES_H_
#define QEFF_EXPORT_STORED_TYPES_H_

#include <string>

#include "absl/status/statusor.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"

namespace qeff {

// The type that holds the codes or blocks of a layer (FindRepackType), by
// module.
using StoredTypes = HashMap<std::string, GgmlType>;

// Those of all layers of `model` that are quantized. Reads their scales.
// Errors: those of ReadQuantizedMatrix; kInvalidArgument for a layer whose
// codes no block of ggml holds, naming folder, layer and what can be done
// instead.
absl::StatusOr<StoredTypes> FindStoredTypes(const Transformer& model);

}  // namespace qeff

#endif  // QEFF_EXPORT_STORED_TYPES_H_
