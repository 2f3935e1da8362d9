// SPDX-License-Identifier: Apache-2.0
//
// Packed integer weights of which many are 0 to their sparse form and back.
// Scalar, as pack_int_weights.h; for the compiler and tests, not for the
// device, whose kernels have their own way back. Byte tables: README.md.

#ifndef QEFF_KERNELS_MATMUL_INT_SPARSE_INT_WEIGHTS_H_
#define QEFF_KERNELS_MATMUL_INT_SPARSE_INT_WEIGHTS_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// The layout with the fewest bytes for the `packed` panels of the dense
// `layout`; two_of_four where that takes at most an eighth more, because
// kernels are faster then. None for widths that
// have no sparse form. It may be larger than `layout`. Precondition (checked):
// packed.size() == layout.total_bytes().
absl::optional<PackedIntLayout> SparseLayoutOf(const PackedIntLayout& layout,
                                               absl::Span<const uint8_t> packed,
                                               ThreadPool* pool);

// Writes the panels `packed` of sparse.Dense() in the form `sparse`, which
// SparseLayoutOf returned for them, to `bytes`. A weight is 0 where its code is
// the zero point. Precondition (checked): bytes.size() == sparse.total_bytes(),
// the size of `packed`, and that they fit the layout.
void CompressIntWeights(const PackedIntLayout& sparse,
                        absl::Span<const uint8_t> packed,
                        absl::Span<uint8_t> bytes, ThreadPool* pool);

// The inverse: the same panels, bit by bit. Precondition (checked): the sizes.
// What CompressIntWeights has not written gives other panels, but reads nothing
// outside `bytes`.
void ExpandIntWeights(const PackedIntLayout& sparse,
                      absl::Span<const uint8_t> bytes,
                      absl::Span<uint8_t> packed);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_SPARSE_INT_WEIGHTS_H_
