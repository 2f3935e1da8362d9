// SPDX-License-Identifier: Apache-2.0
//
// Rows of floats of which at most 2 of each 4 are not 0, as compressed-tensors'
// sparse-24-bitmask stores them: two values of each 4 in their order, and a bit
// an element, set for those two, the first element lowest. Where fewer than two
// are not 0, the first others are stored as well. -0 counts as 0 and comes back
// as 0. Source: compressed-tensors, compressors/sparse_compressors.
//
// For masks of any sparsity, which packages have, see sparse_mask.h.

#ifndef QEFF_FORMAT_SPARSE_24_H_
#define QEFF_FORMAT_SPARSE_24_H_

#include <cstdint>

#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace qeff {

inline constexpr int64_t kSparse24Group = 4;
inline constexpr int64_t kSparse24Kept = 2;

// Bytes of the mask of a row of `cols` elements.
constexpr int64_t Sparse24MaskBytes(int64_t cols) { return (cols + 7) / 8; }

// Stores a row of elements of `elem_bytes` bytes each (2: F16, BF16; 4: F32).
// nullopt, or the index of the first element of a group of which more than two
// are not 0; the outputs are unspecified then. Preconditions (checked): the row
// is whole groups; kept.size() is row.size() / 2, mask.size()
// Sparse24MaskBytes. Thread-safe.
absl::optional<int64_t> CompressSparse24(int64_t elem_bytes,
                                         absl::Span<const uint8_t> row,
                                         absl::Span<uint8_t> kept,
                                         absl::Span<uint8_t> mask);

// The inverse. nullopt, or the index of the first element of a group whose bits
// are not two, or that of a bit beyond the row. Preconditions as above.
absl::optional<int64_t> ExpandSparse24(int64_t elem_bytes,
                                       absl::Span<const uint8_t> kept,
                                       absl::Span<const uint8_t> mask,
                                       absl::Span<uint8_t> row);

}  // namespace qeff

#endif  // QEFF_FORMAT_SPARSE_24_H_
