// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/sparse_24.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "qeff/util/check.h"

namespace qeff {
namespace {

// Whether the element is 0 or -0: little-endian, the sign is the highest bit.
bool IsZero(const uint8_t* element, size_t size) {
  for (size_t i = 0; i + 1 < size; ++i) {
    if (element[i] != 0) return false;
  }
  return (element[size - 1] & 0x7F) == 0;
}

// The bits of a group: those of what is not 0, and the lowest others up to two.
int MaskOfGroup(const uint8_t* group, size_t size) {
  int mask = 0, kept = 0;
  for (int zeros = 0; zeros < 2; ++zeros) {
    for (int i = 0; i < kSparse24Group; ++i) {
      if ((mask >> i & 1) != 0) continue;
      if (IsZero(group + static_cast<size_t>(i) * size, size) != (zeros != 0)) {
        continue;
      }
      if (zeros != 0 && kept >= kSparse24Kept) continue;
      mask |= 1 << i;
      ++kept;
    }
  }
  return mask;
}

int Bits(int mask) {
  return (mask & 1) + (mask >> 1 & 1) + (mask >> 2 & 1) + (mask >> 3 & 1);
}

size_t CheckedCols(int64_t elem_bytes, size_t row_bytes, size_t kept_bytes,
                   size_t mask_bytes) {
  QEFF_CHECK(elem_bytes == 2 || elem_bytes == 4);
  const size_t size = static_cast<size_t>(elem_bytes);
  QEFF_CHECK(row_bytes % (kSparse24Group * size) == 0 &&
             kept_bytes == row_bytes / 2);
  const size_t cols = row_bytes / size;
  QEFF_CHECK(mask_bytes == static_cast<size_t>(
                               Sparse24MaskBytes(static_cast<int64_t>(cols))));
  return cols;
}

}  // namespace

absl::optional<int64_t> CompressSparse24(int64_t elem_bytes,
                                         absl::Span<const uint8_t> row,
                                         absl::Span<uint8_t> kept,
                                         absl::Span<uint8_t> mask) {
  const size_t size = static_cast<size_t>(elem_bytes);
  const size_t cols =
      CheckedCols(elem_bytes, row.size(), kept.size(), mask.size());
  std::fill(mask.begin(), mask.end(), uint8_t{0});
  uint8_t* to = kept.data();
  for (size_t c = 0; c < cols; c += kSparse24Group) {
    const uint8_t* group = row.data() + c * size;
    const int bits = MaskOfGroup(group, size);
    if (Bits(bits) != kSparse24Kept) return static_cast<int64_t>(c);
    mask[c / 8] = static_cast<uint8_t>(mask[c / 8] | bits << c % 8);
    for (size_t i = 0; i < kSparse24Group; ++i) {
      if ((bits >> i & 1) == 0) continue;
      const uint8_t* element = group + i * size;
      if (IsZero(element, size)) {
        std::memset(to, 0, size);
      } else {
        std::memcpy(to, element, size);
      }
      to += size;
    }
  }
  return absl::nullopt;
}

absl::optional<int64_t> ExpandSparse24(int64_t elem_bytes,
                                       absl::Span<const uint8_t> kept,
                                       absl::Span<const uint8_t> mask,
                                       absl::Span<uint8_t> row) {
  const size_t size = static_cast<size_t>(elem_bytes);
  const size_t cols =
      CheckedCols(elem_bytes, row.size(), kept.size(), mask.size());
  std::fill(row.begin(), row.end(), uint8_t{0});
  const uint8_t* from = kept.data();
  for (size_t c = 0; c < cols; c += kSparse24Group) {
    const int bits = mask[c / 8] >> c % 8 & 15;
    if (Bits(bits) != kSparse24Kept) return static_cast<int64_t>(c);
    for (size_t i = 0; i < kSparse24Group; ++i) {
      if ((bits >> i & 1) == 0) continue;
      std::memcpy(row.data() + (c + i) * size, from, size);
      from += size;
    }
  }
  if (cols % 8 != 0 && mask.back() >> cols % 8 != 0) {
    return static_cast<int64_t>(cols);
  }
  return absl::nullopt;
}

}  // namespace qeff
