// SPDX-License-Identifier: Apache-2.0
//
// Elements most of which are 0, as a mask of bits and the others one after
// another. One mask at a time and scalar: the compiler and tests use this,
// kernels have their own way back.

#ifndef QEFF_FORMAT_SPARSE_MASK_H_
#define QEFF_FORMAT_SPARSE_MASK_H_

#include <cstdint>

#include "absl/types/span.h"

namespace qeff {

// Elements that a mask covers.
inline constexpr int kMaskElems = 64;

// Bits set in `mask`.
int KeptElems(uint64_t mask);

// The mask of up to kMaskElems elements: bit i is set where elements[i] is
// not 0. Where fewer than `min_kept` are not, the lowest other bits are set
// too, as long as there are elements, for patterns with a fixed number. `T` is uint8_t or uint16_t.
template <typename T>
uint64_t MaskOf(absl::Span<const T> elements, int min_kept = 0);

// Writes the elements whose bits are set, in order, to `kept`; returns how many
// there are. Precondition: no bit beyond the elements, room in `kept`.
template <typename T>
int Compress(uint64_t mask, absl::Span<const T> elements, T* kept);

// The inverse: `elements` whose bits are not set become 0.
template <typename T>
void Expand(uint64_t mask, const T* kept, absl::Span<T> elements);

}  // namespace qeff

#endif  // QEFF_FORMAT_SPARSE_MASK_H_
