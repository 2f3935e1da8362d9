// SPDX-License-Identifier: Apache-2.0
//
// Per-target: some pairs of a sparse panel back to the bytes of the dense one,
// which the product then reads while they are in L1.

// What all targets share.
#ifndef QEFF_KERNELS_MATMUL_BF16_EXPAND_PAIRS_ONCE_
#define QEFF_KERNELS_MATMUL_BF16_EXPAND_PAIRS_ONCE_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"

namespace qeff {
namespace internal_matmul_bf16 {

// For each value of 8 bits of a mask, from which bytes of the next values those
// of eight elements are; 0x80 for an element of 0.
struct ExpandTable {
  uint8_t index[256][16] = {};
  uint8_t bytes[256] = {};  // of the values that were taken
};
constexpr ExpandTable MakeExpandTable() {
  ExpandTable table;
  for (int mask = 0; mask < 256; ++mask) {
    uint8_t next = 0;
    for (int bit = 0; bit < 8; ++bit) {
      const bool kept = (mask >> bit & 1) != 0;
      for (int byte = 0; byte < 2; ++byte) {
        table.index[mask][2 * bit + byte] = kept ? next++ : uint8_t{0x80};
      }
    }
    table.bytes[mask] = next;
  }
  return table;
}
inline constexpr ExpandTable kExpandTable = MakeExpandTable();

// Pairs between two looks at what to fetch.
constexpr int64_t kPairsOfPiece = 8;

// How far a sparse panel has been expanded, from left to right.
struct SparseCursor {
  // At the beginning of panel `panel` of the matrix at `bytes`. Whatever those
  // are, no pointer leads outside of them.
  SparseCursor(const PackedBF16Layout& layout, const uint8_t* bytes,
               int64_t panel) {
    masks = bytes + layout.MasksOffset() + panel * layout.panel_masks_bytes();
    const uint64_t last = static_cast<uint64_t>(
        layout.values_bytes() - PackedBF16Layout::kSparseSlackBytes);
    uint64_t begin;
    std::memcpy(&begin, bytes + 8 * panel, sizeof(begin));
    values = bytes + layout.ValuesOffset() + std::min(begin, last);
    limit = bytes + layout.ValuesOffset() + last;
  }

  const uint8_t* masks;   // of the next pair
  const uint8_t* values;  // its kept elements
  const uint8_t* limit;   // where those of a pair begin at the latest
};

struct SparseFetchers {
  StreamFetcher masks;
  StreamFetcher values;
};

}  // namespace internal_matmul_bf16
}  // namespace qeff
#endif  // QEFF_KERNELS_MATMUL_BF16_EXPAND_PAIRS_ONCE_

#if defined(QEFF_KERNELS_MATMUL_BF16_EXPAND_PAIRS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_MATMUL_BF16_EXPAND_PAIRS_INL_H_
#undef QEFF_KERNELS_MATMUL_BF16_EXPAND_PAIRS_INL_H_
#else
#define QEFF_KERNELS_MATMUL_BF16_EXPAND_PAIRS_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_bf16 {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3_DL

using U16 = hn::CappedTag<uint16_t, 32>;
using V16 = hn::Vec<U16>;

// Not the intrinsic: the instruction waits for what its result overwrites,
// which compilers take from five cycles before. `kept` itself is there.
HWY_INLINE V16 ExpandWords(uint32_t mask, V16 kept) {
  asm("vpexpandw %0, %0%{%1%}%{z%}"
      : "+v"(kept.raw)
      : "Yk"(static_cast<__mmask32>(mask)));
  return kept;
}

// The two vectors of a pair of the dense panel. Returns the bytes of its
// values; may read PackedBF16Layout::kSparseSlackBytes of them.
HWY_INLINE int64_t ExpandPair(const uint8_t* masks, const uint8_t* values,
                              V16& first, V16& second) {
  uint64_t mask;
  std::memcpy(&mask, masks, sizeof(mask));
  const int64_t firsts = __builtin_popcount(static_cast<uint32_t>(mask));
  const auto* kept = reinterpret_cast<const uint16_t*>(values);
  first = ExpandWords(static_cast<uint32_t>(mask), hn::LoadU(U16(), kept));
  second = ExpandWords(static_cast<uint32_t>(mask >> 32),
                       hn::LoadU(U16(), kept + firsts));
  return 2 * __builtin_popcountll(mask);
}

// The same to memory, 64-byte aligned.
HWY_INLINE int64_t ExpandPair(const uint8_t* masks, const uint8_t* values,
                              uint8_t* to) {
  V16 first, second;
  const int64_t bytes = ExpandPair(masks, values, first, second);
  hn::Store(first, U16(), reinterpret_cast<uint16_t*>(to));
  hn::Store(second, U16(), reinterpret_cast<uint16_t*>(to) + 32);
  return bytes;
}

#else

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void ExpandEight(const uint8_t* values, const uint8_t* index,
                            uint8_t* to) {
  for (int i = 0; i < 16; ++i) {
    to[i] = index[i] < 16 ? values[index[i]] : uint8_t{0};
  }
}
#else
HWY_INLINE void ExpandEight(const uint8_t* values, const uint8_t* index,
                            uint8_t* to) {
  const hn::Simd<uint8_t, 16, 0> u8;
  hn::Store(
      hn::TableLookupBytesOr0(hn::LoadU(u8, values), hn::LoadU(u8, index)), u8,
      to);
}
#endif

// Writes a pair of the dense panel. Returns the bytes of its values; may read
// PackedBF16Layout::kSparseSlackBytes of them.
HWY_INLINE int64_t ExpandPair(const uint8_t* masks, const uint8_t* values,
                              uint8_t* to) {
  int64_t bytes = 0;
  for (int i = 0; i < 8; ++i) {
    ExpandEight(values + bytes, kExpandTable.index[masks[i]], to + 16 * i);
    bytes += kExpandTable.bytes[masks[i]];
  }
  return bytes;
}

#endif

// Writes the next `pairs` pairs of the dense panel, 64-byte aligned. `fetchers`
// are null for what is in the cache.
HWY_NOINLINE void ExpandPairs(int64_t pairs, SparseFetchers* fetchers,
                              SparseCursor& cursor, uint8_t* to) {
  const uint8_t* masks = cursor.masks;
  const uint8_t* values = cursor.values;
  for (int64_t begin = 0; begin < pairs; begin += kPairsOfPiece) {
    if (fetchers != nullptr) {
      fetchers->masks.Reach(masks);
      fetchers->values.Reach(values);
    }
    const int64_t end = std::min(begin + kPairsOfPiece, pairs);
    for (int64_t i = begin; i < end; ++i) {
      values = std::min(values + ExpandPair(masks, values, to), cursor.limit);
      masks += PackedBF16Layout::kPairMaskBytes;
      to += PackedBF16Layout::kPairBytes;
    }
  }
  cursor.masks = masks;
  cursor.values = values;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_bf16
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_MATMUL_BF16_EXPAND_PAIRS_INL_H_
