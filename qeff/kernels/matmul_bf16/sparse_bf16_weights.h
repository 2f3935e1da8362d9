// SPDX-License-Identifier: Apache-2.0
//
// Packed bf16 weights of which many are 0 to their sparse form and back.
// Scalar, as pack_bf16_weights.h; for the compiler and tests, not for the
// device, whose kernel has its own way back. Byte tables: README.md.

#ifndef QEFF_KERNELS_MATMUL_BF16_SPARSE_BF16_WEIGHTS_H_
#define QEFF_KERNELS_MATMUL_BF16_SPARSE_BF16_WEIGHTS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// The sparse layout for the `packed` panels of the dense `layout`. It may be
// larger than `layout`. Precondition (checked): packed.size() ==
// layout.total_bytes().
PackedBF16Layout SparseLayoutOf(const PackedBF16Layout& layout,
                                absl::Span<const uint8_t> packed,
                                ThreadPool* pool);

// Writes the panels `packed` of sparse.Dense() in the form `sparse`, which
// SparseLayoutOf returned for them, to `bytes`. Elements whose bits are all 0
// are left out; -0 is kept. Preconditions (checked): bytes.size() ==
// sparse.total_bytes(), the size of `packed`, and that they fit the layout.
void CompressBF16Weights(const PackedBF16Layout& sparse,
                         absl::Span<const uint8_t> packed,
                         absl::Span<uint8_t> bytes, ThreadPool* pool);

// The inverse: the same panels, bit by bit. Precondition (checked): the sizes.
// What CompressBF16Weights has not written gives other panels, but reads
// nothing outside `bytes`.
void ExpandBF16Weights(const PackedBF16Layout& sparse,
                       absl::Span<const uint8_t> bytes,
                       absl::Span<uint8_t> packed);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_BF16_SPARSE_BF16_WEIGHTS_H_
