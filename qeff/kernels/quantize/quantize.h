// SPDX-License-Identifier: Apache-2.0
//
// Rows of weights to packed integer codes and back. The arithmetic is defined
// in qeff/format/quant_scheme.h and the packing in qeff/format/packing.h; this
// is the vectorized form, with the same bits on every target.

#ifndef QEFF_KERNELS_QUANTIZE_QUANTIZE_H_
#define QEFF_KERNELS_QUANTIZE_QUANTIZE_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// Where QuantizeRows puts its results, rows one after another. With
// `shape` = QuantizedShape(scheme, rows, cols):
struct QuantizedRows {
  absl::Span<uint8_t> packed;  // rows * shape.row_words * 4 bytes
  absl::Span<uint8_t> scales;  // rows * shape.groups scales
  // rows * shape.groups codes of 0, one a byte; empty when symmetric.
  absl::Span<uint8_t> zeros;
};

// Quantizes `rows` consecutive rows of `cols` elements of type `dtype` (F32,
// F16 or BF16) at `from`: for each group the parameters of ComputeGroupParams,
// for each element the code of QuantizeValue, packed densely. Inputs and
// outputs may have any alignment and must not overlap.
//
// Returns nullopt, or the index (row * cols + column) of the first element
// that is NaN or infinite; rows from that one on are then unspecified.
// Preconditions (checked): sizes, dtype, IsScaleDType(scale_dtype).
// Thread-safe. Allocates for one row.
absl::optional<int64_t> QuantizeRows(const QuantScheme& scheme,
                                     DType scale_dtype, DType dtype,
                                     absl::Span<const uint8_t> from,
                                     int64_t rows, int64_t cols,
                                     const QuantizedRows& to);

// Borrowed quantized rows, as QuantizeRows writes them.
struct QuantizedRowsView {
  int bits = 0;
  int64_t cols = 0;
  int64_t group_elems = 0;  // >= 1; of every group but the last of a row
  DType scale_dtype = DType::kBF16;
  absl::Span<const uint8_t> packed;
  absl::Span<const uint8_t> scales;
  absl::Span<const uint8_t> zeros;  // empty: 2^(bits-1)
};

// Writes rows [row_begin, row_begin + row_count) of `from` as float32 to `to`,
// row_count * from.cols elements: (code - zero) * scale. Preconditions
// (checked): sizes; the rows lie inside. Thread-safe. Allocates nothing.
void DequantizeRows(const QuantizedRowsView& from, int64_t row_begin,
                    int64_t row_count, absl::Span<float> to);

}  // namespace qeff

#endif  // QEFF_KERNELS_QUANTIZE_QUANTIZE_H_
