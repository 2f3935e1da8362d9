// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/sparse_mask.h"

#include <cstddef>
#include <cstdint>

#include "qeff/util/check.h"

namespace qeff {

int KeptElems(uint64_t mask) {
  int count = 0;
  for (; mask != 0; mask &= mask - 1) ++count;
  return count;
}

template <typename T>
uint64_t MaskOf(absl::Span<const T> elements, int min_kept) {
  QEFF_CHECK(elements.size() <= static_cast<size_t>(kMaskElems));
  uint64_t mask = 0;
  int kept = 0;
  for (size_t i = 0; i < elements.size(); ++i) {
    if (elements[i] == 0) continue;
    mask |= uint64_t{1} << i;
    ++kept;
  }
  for (size_t i = 0; i < elements.size() && kept < min_kept; ++i) {
    const uint64_t bit = uint64_t{1} << i;
    if ((mask & bit) != 0) continue;
    mask |= bit;
    ++kept;
  }
  return mask;
}

template <typename T>
int Compress(uint64_t mask, absl::Span<const T> elements, T* kept) {
  int count = 0;
  for (size_t i = 0; i < elements.size(); ++i) {
    if ((mask >> i & 1) != 0) kept[count++] = elements[i];
  }
  return count;
}

template <typename T>
void Expand(uint64_t mask, const T* kept, absl::Span<T> elements) {
  for (size_t i = 0; i < elements.size(); ++i) {
    elements[i] = (mask >> i & 1) != 0 ? *kept++ : T{0};
  }
}

template uint64_t MaskOf(absl::Span<const uint8_t>, int);
template uint64_t MaskOf(absl::Span<const uint16_t>, int);
template int Compress(uint64_t, absl::Span<const uint8_t>, uint8_t*);
template int Compress(uint64_t, absl::Span<const uint16_t>, uint16_t*);
template void Expand(uint64_t, const uint8_t*, absl::Span<uint8_t>);
template void Expand(uint64_t, const uint16_t*, absl::Span<uint16_t>);

}  // namespace qeff
