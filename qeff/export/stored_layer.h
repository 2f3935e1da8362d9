// SPDX-License-Identifier: Apache-2.0
//
// A quantized layer of a model as its folder has it, in the form that other
// layouts are made from, and whether they can hold it.

#ifndef QEFF_EXPORT_STORED_LAYER_H_
#define QEFF_EXPORT_STORED_LAYER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/quantized_matrix.h"
#include "qeff/io/weight_quantization.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct StoredLayer {
  LinearModule module = {};
  // How it is stored; of integers, how they are here: blocks and bytes that are
  // integers (integer_codes.h) have become packed ones, unless inputs are codes
  // as well.
  WeightQuantization weights;
  QuantizedMatrix matrix;

  // Whether `matrix` has packed codes.
  bool integers() const { return !matrix.codes.packed.empty(); }
};

// Whether `module` is a quantized layer of `model`.
bool IsStoredQuantized(const Transformer& model, const LinearModule& module);

// Precondition: IsStoredQuantized. Borrows the model's checkpoint. Errors:
// those of ReadQuantizedMatrix and IntegerCodes. Throws std::bad_alloc.
absl::StatusOr<StoredLayer> ReadStoredLayer(const Transformer& model,
                                            const LinearModule& module);

// Why `layout` cannot hold `layer` without changing a value, for people to
// read; empty when it can. Of kGptq, kGptqV2 and kAwq: integers of 2, 3, 4 or 8
// bits (kAwq: 4) without codes for inputs, sides that fill whole words, for
// kAwq groups that divide the row, scales that are values of float16. Of
// kCompressedTensors: WhyNotCompressedTensors. Columns in activation order: not
// kAwq, and kCompressedTensors with groups of one size only.
std::string WhyNotHeld(const StoredLayer& layer, QuantizedLayout layout);

// kInvalidArgument that says so, and which of the layouts that export writes
// hold the layer. Precondition: `why` is not empty.
absl::Status NotHeldError(const Transformer& model, const StoredLayer& layer,
                          QuantizedLayout layout, const std::string& why);

}  // namespace qeff

#endif  // QEFF_EXPORT_STORED_LAYER_H_
