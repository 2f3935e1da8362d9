// SPDX-License-Identifier: Apache-2.0
//
// Row-major bf16 weights, as checkpoints hold them, to the layout of the matrix
// product and back. Scalar, so that any machine makes the package of any other;
// for the compiler, not for the device.

#ifndef QEFF_KERNELS_MATMUL_BF16_PACK_BF16_WEIGHTS_H_
#define QEFF_KERNELS_MATMUL_BF16_PACK_BF16_WEIGHTS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"

namespace qeff {

// Writes panels [panel_begin, panel_begin + panel_count) of the matrix whose
// elements are the little-endian bf16 `weights`, row after row, to `packed`.
// Padding rows and the padding column are +0, so equal inputs give equal bytes.
// Preconditions (checked): weights.size() == 2 * rows * cols; the panels are in
// the layout; packed.size() == panel_count * layout.panel_bytes(). No alignment
// is needed; the spans must not overlap. Bits are copied, NaN too. Thread-safe:
// callers may split the panels over threads. Allocates nothing.
void PackBF16Weights(const PackedBF16Layout& layout,
                     absl::Span<const uint8_t> weights, int64_t panel_begin,
                     int64_t panel_count, absl::Span<uint8_t> packed);

// The inverse, over all panels. Preconditions (checked): packed.size() ==
// layout.total_bytes(), weights.size() == 2 * rows * cols. Thread-safe.
void UnpackBF16Weights(const PackedBF16Layout& layout,
                       absl::Span<const uint8_t> packed,
                       absl::Span<uint8_t> weights);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_BF16_PACK_BF16_WEIGHTS_H_
