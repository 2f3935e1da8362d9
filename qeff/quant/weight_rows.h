// SPDX-License-Identifier: Apache-2.0
//
// Rows of a stored weight as the quantize kernel takes them: in place where
// possible, converted or transposed where not.

#ifndef QEFF_QUANT_WEIGHT_ROWS_H_
#define QEFF_QUANT_WEIGHT_ROWS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Consecutive rows, contiguous.
struct WeightRows {
  DType dtype;  // F32, F16 or BF16
  absl::Span<const uint8_t> bytes;
};

// Rows [begin, begin + count) of the matrix [rows, cols] that `weight` holds,
// as [cols, rows] with `transposed`. The result lies in `weight` or in
// `buffer`, which keeps its memory between calls. Transposing rounds F64 to
// float32, everything else is exact. Preconditions (checked): a floating
// matrix that has these rows.
WeightRows ReadWeightRows(const TensorView& weight, bool transposed,
                          int64_t begin, int64_t count,
                          std::vector<float>* buffer);

}  // namespace qeff

#endif  // QEFF_QUANT_WEIGHT_ROWS_H_
