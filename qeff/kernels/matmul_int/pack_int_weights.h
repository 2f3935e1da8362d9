// SPDX-License-Identifier: Apache-2.0
//
// Quantized rows, as checkpoints hold them, to the layout of the matrix
// product and back. Scalar, so that any machine makes the package of any other;
// for the compiler, not for the device.

#ifndef QEFF_KERNELS_MATMUL_INT_PACK_INT_WEIGHTS_H_
#define QEFF_KERNELS_MATMUL_INT_PACK_INT_WEIGHTS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/quantize/quantize.h"

namespace qeff {

// Writes panels [panel_begin, panel_begin + panel_count) of `rows`, which are
// the whole matrix, to `packed`. Padding gets the code 2^(bits-1) and, beyond
// the last row, scale and zero point 0, so equal inputs give equal bytes.
// Preconditions (checked): `rows` has zero points if `layout` is asymmetric and
// else none, and has the bits, columns, groups, scale type and size of
// `layout`; packed.size() == panel_count * layout.panel_bytes(). Zero points
// below 2^bits are the caller's part. No alignment is needed; the spans must
// not overlap. Thread-safe: callers may split the panels over threads.
// Allocates for one row.
void PackIntWeights(const PackedIntLayout& layout,
                    const QuantizedRowsView& rows, int64_t panel_begin,
                    int64_t panel_count, absl::Span<uint8_t> packed);

// Where UnpackIntWeights puts row-major results.
struct UnpackedIntWeights {
  absl::Span<uint8_t> codes;   // rows * cols, one a byte
  absl::Span<uint8_t> scales;  // rows * groups scales
  absl::Span<uint8_t> zeros;   // rows * groups, or empty when symmetric
};

// The inverse, over all panels. Preconditions (checked): packed.size() ==
// layout.total_bytes(), and the sizes of `to`. Thread-safe.
void UnpackIntWeights(const PackedIntLayout& layout,
                      absl::Span<const uint8_t> packed,
                      const UnpackedIntWeights& to);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_PACK_INT_WEIGHTS_H_
