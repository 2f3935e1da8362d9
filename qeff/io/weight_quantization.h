// SPDX-License-Identifier: Apache-2.0
//
// How the weights of a linear layer of a model folder are quantized.

#ifndef QEFF_IO_WEIGHT_QUANTIZATION_H_
#define QEFF_IO_WEIGHT_QUANTIZATION_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "qeff/format/codebook.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/format/quant_scheme.h"

namespace qeff {

// What shares a scale.
enum class QuantStrategy : uint8_t { kTensor, kChannel, kGroup };

// How the weights of a layer are stored, and what becomes of its inputs.
struct WeightQuantization {
  int bits = 4;
  bool symmetric = true;
  QuantStrategy strategy = QuantStrategy::kGroup;
  int64_t group_size = 0;  // with kGroup only
  // Blocks of this type instead; the members above then say nothing. In
  // QuantizedLayout::kQeff only.
  absl::optional<GgmlType> ggml;
  // Codes of this table instead of integers, as QuantScheme has it.
  absl::optional<Codebook> codebook;
  // Signed bytes instead of packed codes ("int-quantized"); with 8 bits.
  bool signed_bytes = false;
  InputCodes inputs = InputCodes::kNone;

  // That of a layer which was quantized with `scheme`.
  static WeightQuantization FromScheme(const QuantScheme& scheme);
  // The inverse, but for the scale rule; kTensor becomes per row.
  QuantScheme ToScheme() const;
};

}  // namespace qeff

#endif  // QEFF_IO_WEIGHT_QUANTIZATION_H_
