// SPDX-License-Identifier: Apache-2.0
//
// Per-target: a part of the columns of a sparse panel back to the bytes of the
// dense one, which the product then reads while they are in L1.

// What all targets share.
#ifndef QEFF_KERNELS_MATMUL_INT_EXPAND_PART_ONCE_
#define QEFF_KERNELS_MATMUL_INT_EXPAND_PART_ONCE_

#include <cstdint>
#include <cstring>

#include "hwy/base.h"
#include "qeff/kernels/matmul_int/multiply_part-inl.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"

namespace qeff {
namespace internal_matmul_int {

// For each value of 8 bits of a mask, where among the next values those of its
// bits are; 0x80 where there is none.
struct ExpandTable {
  uint8_t index[256][8] = {};
  uint8_t count[256] = {};
};
constexpr ExpandTable MakeExpandTable() {
  ExpandTable table;
  for (int mask = 0; mask < 256; ++mask) {
    uint8_t next = 0;
    for (int bit = 0; bit < 8; ++bit) {
      const bool kept = (mask >> bit & 1) != 0;
      table.index[mask][bit] = kept ? next++ : uint8_t{0x80};
    }
    table.count[mask] = next;
  }
  return table;
}
inline constexpr ExpandTable kExpandTable = MakeExpandTable();

// For each two indices, of 2 bits each, of kept columns: bytes that say for
// four columns which of the two each is, 0 or 1, or 0x80 for neither.
struct PairTable {
  uint32_t index[16] = {};
};
constexpr PairTable MakePairTable() {
  PairTable table;
  for (uint32_t pair = 0; pair < 16; ++pair) {
    for (uint32_t column = 0; column < 4; ++column) {
      // The second index wins, as in a loop over both.
      const uint32_t which = column == pair >> 2 ? 1 : 0;
      const bool kept = which == 1 || column == (pair & 3);
      table.index[pair] |= (kept ? which : 0x80u) << (8 * column);
    }
  }
  return table;
}
alignas(64) inline constexpr PairTable kPairTable = MakePairTable();

// For each byte of a vector, i.e. four of each of 16 rows.
struct VectorTable {
  uint8_t bytes[64] = {};
};
// Where in 64 bits the indices of its row begin: byte k of a row takes those
// from bit `first` + k * `step` on. IndexPlace of the packer puts them there.
constexpr VectorTable MakeIndexShifts(int first, int step) {
  VectorTable table;
  for (int i = 0; i < 64; ++i) {
    table.bytes[i] = static_cast<uint8_t>(i / 16 * 16 + i / 4 % 2 * 8 + first +
                                          i % 4 * step);
  }
  return table;
}
// The first byte of its row in 128 bits, plus `first`.
constexpr VectorTable MakeRowBytes(int first) {
  VectorTable table;
  for (int i = 0; i < 64; ++i) {
    table.bytes[i] = static_cast<uint8_t>(i / 4 % 4 * 4 + first);
  }
  return table;
}
alignas(64) inline constexpr VectorTable kShiftsOfIndices = MakeIndexShifts(0,
                                                                            2);
alignas(64) inline constexpr VectorTable kShiftsOfPairs[2] = {
    MakeIndexShifts(0, 0), MakeIndexShifts(4, 0)};
alignas(64) inline constexpr VectorTable kRowBytes[2] = {MakeRowBytes(0),
                                                         MakeRowBytes(2)};

// How far a sparse panel has been expanded, from left to right.
struct SparseCursor {
  // At the beginning of panel `panel` of the matrix at `bytes`. Whatever those
  // are, no pointer leads outside of them.
  SparseCursor(const PackedIntLayout& layout, const uint8_t* bytes,
               int64_t panel)
      : two_of_four(layout.sparse_codes().two_of_four),
        groups(layout.groups()),
        group_steps(layout.GroupSteps(0)),
        last_group_steps(layout.GroupSteps(layout.groups() - 1)),
        scales_bytes(layout.scales_bytes()) {
    masks = bytes + layout.MasksOffset() + panel * layout.panel_masks_bytes();
    zeros = layout.asymmetric()
                ? masks + layout.panel_masks_bytes() - layout.zeros_bytes()
                : nullptr;
    const int64_t values_bytes = layout.sparse_codes().values_bytes;
    uint64_t last = static_cast<uint64_t>(values_bytes);
    uint64_t begin = static_cast<uint64_t>(panel * layout.panel_pairs_bytes());
    if (!two_of_four) {
      last -= kSparseSlackBytes;
      std::memcpy(&begin, bytes + 8 * panel, sizeof(begin));
      begin = HWY_MIN(begin, last);
    }
    values[0] = values[1] = bytes + layout.ValuesOffset() + begin;
    limit = bytes + layout.ValuesOffset() + last;
  }

  const uint8_t* masks;      // of the next step, or scales of the group
  const uint8_t* values[2];  // its kept codes; of 4 bits: low, high halves
  const uint8_t* zeros;      // zero points of the panel, or null
  const uint8_t* limit;      // where the values of a step begin at the latest
  bool two_of_four;
  int64_t groups;
  int64_t group_steps;
  int64_t last_group_steps;
  int64_t scales_bytes;

  int64_t StepsOf(int64_t group) const {
    return group + 1 < groups ? group_steps : last_group_steps;
  }
};

struct SparseFetchers {
  StreamFetcher masks;
  StreamFetcher values;
};

}  // namespace internal_matmul_int
}  // namespace qeff
#endif  // QEFF_KERNELS_MATMUL_INT_EXPAND_PART_ONCE_

#if defined(QEFF_KERNELS_MATMUL_INT_EXPAND_PART_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_MATMUL_INT_EXPAND_PART_INL_H_
#undef QEFF_KERNELS_MATMUL_INT_EXPAND_PART_INL_H_
#else
#define QEFF_KERNELS_MATMUL_INT_EXPAND_PART_INL_H_
#endif

#include "hwy/highway.h"
#include "qeff/kernels/matmul_int/dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_int {
namespace HWY_NAMESPACE {

constexpr int64_t kVectorBytes = 64;  // of a mask, or of a pair with 4 bits
// What kept codes lack: the code of 0, for each byte of the vectors of a step.
struct ZeroCodes {
  HWY_ALIGN uint8_t bytes[2 * kVectorBytes];
};

template <int kBits>
HWY_INLINE void SetZeroCodes(const uint8_t* zeros, ZeroCodes& codes) {
  if (zeros == nullptr) {
    std::memset(codes.bytes, kBits == 8 ? 0x80 : 0x88, sizeof(codes.bytes));
    return;
  }
  for (int64_t row = 0; row < kPanelRows; ++row) {
    const uint32_t zero = kBits == 8 ? zeros[row] : (zeros[row] & 15u) * 0x11u;
    const uint32_t word = zero * 0x01010101u;
    std::memcpy(codes.bytes + 4 * row, &word, sizeof(word));
  }
}

HWY_INLINE uint64_t LoadMask(const uint8_t* from) {
  uint64_t mask;
  std::memcpy(&mask, from, sizeof(mask));
  return mask;
}

#if HWY_TARGET == HWY_AVX3_DL

using U8 = hn::CappedTag<uint8_t, kVectorBytes>;
using V8 = hn::Vec<U8>;

// Not the intrinsic: the instruction waits for what its result overwrites,
// which compilers take from five cycles before. `kept` itself is there.
HWY_INLINE V8 ExpandBytes(uint64_t mask, V8 kept) {
  asm("vpexpandb %0, %0%{%1%}%{z%}"
      : "+v"(kept.raw)
      : "Yk"(static_cast<__mmask64>(mask)));
  return kept;
}

// A step of 4 or 8 bits, of which `values` begin to be kept; they move on.
template <int kBits>
HWY_INLINE void ExpandStep(const uint8_t* masks, const ZeroCodes& zeros,
                           const uint8_t* (&values)[2], uint8_t* to) {
  if (kBits == 8) {
    HWY_UNROLL(4)
    for (int i = 0; i < 4; ++i) {
      const uint64_t mask = LoadMask(masks + 8 * i);
      const V8 codes = ExpandBytes(mask, hn::LoadU(U8(), values[0]));
      values[0] += __builtin_popcountll(mask);
      const V8 zero = hn::Load(U8(), zeros.bytes + i % 2 * kVectorBytes);
      hn::Store(hn::Xor(codes, zero), U8(), to + i * kVectorBytes);
    }
    return;
  }
  const V8 low_bits = hn::Set(U8(), 0x0F), high_bits = hn::Set(U8(), 0xF0);
  HWY_UNROLL(2)
  for (int i = 0; i < 2; ++i) {
    const uint64_t low_mask = LoadMask(masks + 16 * i);
    const uint64_t high_mask = LoadMask(masks + 16 * i + 8);
    const V8 low =
        ExpandBytes(low_mask, hn::And(hn::LoadU(U8(), values[0]), low_bits));
    const V8 high =
        ExpandBytes(high_mask, hn::And(hn::LoadU(U8(), values[1]), high_bits));
    values[0] += __builtin_popcountll(low_mask);
    values[1] += __builtin_popcountll(high_mask);
    const V8 zero = hn::Load(U8(), zeros.bytes + i * kVectorBytes);
    hn::Store(hn::Xor(hn::Or(low, high), zero), U8(), to + i * kVectorBytes);
  }
}

// Vector `v` of the kept codes of a step: four of each of 16 rows.
template <int kBits>
HWY_INLINE V8 LoadPairs(const uint8_t* values, int v) {
  if (kBits == 8) return hn::Load(U8(), values + v * kVectorBytes);
  const hn::Repartition<uint16_t, U8> u16;
  const V8 both = hn::Load(U8(), values);
  const V8 codes =
      v == 0 ? both
             : hn::BitCast(U8(), hn::ShiftRight<4>(hn::BitCast(u16, both)));
  return hn::And(codes, hn::Set(U8(), 0x0F));
}

HWY_INLINE V8 LoadTable(const VectorTable& table) {
  return hn::Load(U8(), table.bytes);
}

// For each row of a vector the bits of `indices` that `shifts` say.
HWY_INLINE V8 ShiftIndices(const VectorTable& shifts, V8 indices) {
  return V8{_mm512_multishift_epi64_epi8(LoadTable(shifts).raw, indices.raw)};
}

// The same of a step where two of four are kept.
template <int kBits>
HWY_INLINE void ExpandPairsStep(const uint8_t* indices, const ZeroCodes& zeros,
                                const uint8_t* values, uint8_t* to) {
  const auto table = hn::Load(U32(), kPairTable.index);
  HWY_UNROLL(2)
  for (int v = 0; v < 2; ++v) {
    const V8 codes = LoadPairs<kBits>(values, v);
    const V8 pairs = hn::LoadDup128(U8(), indices + 16 * v);
    const auto expand = [&](int word) {
      const V8 shifted = ShiftIndices(kShiftsOfPairs[word], pairs);
      const V8 which{_mm512_permutexvar_epi32(shifted.raw, table.raw)};
      return hn::TableLookupBytesOr0(
          codes, hn::Add(which, LoadTable(kRowBytes[word])));
    };
    const V8 words[2] = {expand(0), expand(1)};
    const V8 zero = hn::Load(U8(), zeros.bytes + v * kVectorBytes);
    if (kBits == 8) {
      hn::Store(hn::Xor(words[0], zero), U8(), to + v * kVectorBytes);
      hn::Store(hn::Xor(words[1], zero), U8(), to + (2 + v) * kVectorBytes);
    } else {
      const V8 high =
          hn::BitCast(U8(), hn::ShiftLeft<4>(hn::BitCast(U32(), words[1])));
      hn::Store(hn::Xor(hn::Or(words[0], high), zero), U8(),
                to + v * kVectorBytes);
    }
  }
}

#else

// The next values, at `from`, under 8 bits of a mask.
#if HWY_TARGET == HWY_SCALAR
struct V8 {
  uint64_t raw;
};
HWY_INLINE V8 LoadV8(const uint8_t* from) { return {LoadMask(from)}; }
HWY_INLINE void StoreV8(V8 v, uint8_t* to) {
  std::memcpy(to, &v.raw, sizeof(v.raw));
}
HWY_INLINE V8 Xor8(V8 a, V8 b) { return {a.raw ^ b.raw}; }
HWY_INLINE V8 Merge8(V8 low, V8 high) {
  return {(low.raw & 0x0F0F0F0F0F0F0F0Full) |
          (high.raw & 0xF0F0F0F0F0F0F0F0ull)};
}
HWY_INLINE V8 ShiftLeft4(V8 v) { return {v.raw << 4}; }
HWY_INLINE V8 HighBits(V8 v) { return {v.raw >> 4 & 0x0F0F0F0F0F0F0F0Full}; }
HWY_INLINE V8 Lookup8(V8 from, V8 index) {
  uint8_t bytes[8], indices[8], result[8];
  StoreV8(from, bytes);
  StoreV8(index, indices);
  for (int i = 0; i < 8; ++i) {
    result[i] = indices[i] < 8 ? bytes[indices[i]] : uint8_t{0};
  }
  return LoadV8(result);
}
#else
using U8 = hn::Simd<uint8_t, 8, 0>;
using V8 = hn::Vec<U8>;
HWY_INLINE V8 LoadV8(const uint8_t* from) { return hn::LoadU(U8(), from); }
HWY_INLINE void StoreV8(V8 v, uint8_t* to) { hn::StoreU(v, U8(), to); }
HWY_INLINE V8 Xor8(V8 a, V8 b) { return hn::Xor(a, b); }
HWY_INLINE V8 Merge8(V8 low, V8 high) {
  return hn::Or(hn::And(low, hn::Set(U8(), 0x0F)),
                hn::And(high, hn::Set(U8(), 0xF0)));
}
HWY_INLINE V8 ShiftLeft4(V8 v) {
  const hn::Repartition<uint16_t, U8> u16;  // codes of 4 bits stay in bytes
  return hn::BitCast(U8(), hn::ShiftLeft<4>(hn::BitCast(u16, v)));
}
HWY_INLINE V8 HighBits(V8 v) {
  const hn::Repartition<uint16_t, U8> u16;
  return hn::And(hn::BitCast(U8(), hn::ShiftRight<4>(hn::BitCast(u16, v))),
                 hn::Set(U8(), 0x0F));
}
HWY_INLINE V8 Lookup8(V8 from, V8 index) {
  return hn::TableLookupBytesOr0(from, index);
}
#endif
HWY_INLINE V8 ExpandBytes(uint8_t mask, const uint8_t* from) {
  return Lookup8(LoadV8(from), LoadV8(kExpandTable.index[mask]));
}

template <int kBits>
HWY_INLINE void ExpandStep(const uint8_t* masks, const ZeroCodes& zeros,
                           const uint8_t* (&values)[2], uint8_t* to) {
  constexpr int kVectors = kBits == 8 ? 4 : 2;
  for (int v = 0; v < kVectors; ++v) {
    for (int i = 0; i < 8; ++i) {
      const V8 zero = LoadV8(zeros.bytes + v % 2 * kVectorBytes + 8 * i);
      const uint8_t mask = masks[i];
      V8 codes = ExpandBytes(mask, values[0]);
      values[0] += kExpandTable.count[mask];
      if (kBits == 4) {
        const uint8_t high_mask = masks[8 + i];
        codes = Merge8(codes, ExpandBytes(high_mask, values[1]));
        values[1] += kExpandTable.count[high_mask];
      }
      StoreV8(Xor8(codes, zero), to + v * kVectorBytes + 8 * i);
    }
    masks += kBits == 8 ? 8 : 16;
  }
}

// Where two kept codes of each of two rows go, `first` among the four of a row.
HWY_INLINE V8 PairsOfRows(uint32_t pair0, uint32_t pair1, uint32_t first) {
  const uint64_t low = kPairTable.index[pair0] + first * 0x01010101u;
  const uint64_t high = kPairTable.index[pair1] + (first + 4) * 0x01010101u;
  const uint64_t both = low | high << 32;
  uint8_t bytes[8];
  std::memcpy(bytes, &both, sizeof(both));
  return LoadV8(bytes);
}

template <int kBits>
HWY_INLINE void ExpandPairsStep(const uint8_t* indices, const ZeroCodes& zeros,
                                const uint8_t* values, uint8_t* to) {
  for (int v = 0; v < 2; ++v) {
    for (int i = 0; i < 8; ++i) {
      const uint8_t* pairs = indices + 16 * v + i % 2 * 8 + i / 2 * 2;
      V8 codes = LoadV8(values + (kBits == 8 ? v * kVectorBytes : 0) + 8 * i);
      if (kBits == 4 && v == 1) codes = HighBits(codes);
      const V8 zero = LoadV8(zeros.bytes + v * kVectorBytes + 8 * i);
      const V8 first =
          Lookup8(codes, PairsOfRows(pairs[0] & 15u, pairs[1] & 15u, 0));
      const V8 last = Lookup8(
          codes, PairsOfRows(pairs[0] >> 4 & 15u, pairs[1] >> 4 & 15u, 2));
      uint8_t* row = to + v * kVectorBytes + 8 * i;
      if (kBits == 8) {
        StoreV8(Xor8(first, zero), row);
        StoreV8(Xor8(last, zero), row + 2 * kVectorBytes);
      } else {
        StoreV8(Xor8(Merge8(first, ShiftLeft4(last)), zero), row);
      }
    }
  }
}

#endif

template <int kBits, bool kPairs>
HWY_INLINE void ExpandSteps(int64_t steps, const ZeroCodes& zeros,
                            SparseFetchers* fetchers, SparseCursor& cursor,
                            uint8_t* to) {
  constexpr int64_t kStepBytes = kPanelRows * kBits;
  constexpr int64_t kStepsOfPiece = 4;
  const uint8_t* masks = cursor.masks;
  const uint8_t* values[2] = {cursor.values[0], cursor.values[1]};
  for (int64_t begin = 0; begin < steps; begin += kStepsOfPiece) {
    if (fetchers != nullptr) {
      fetchers->masks.Reach(masks);
      fetchers->values.Reach(values[0]);
    }
    const int64_t end = HWY_MIN(begin + kStepsOfPiece, steps);
    for (int64_t s = begin; s < end; ++s) {
      if (kPairs) {
        ExpandPairsStep<kBits>(masks, zeros, values[0], to);
        values[0] += kStepBytes / 2;
      } else {
        ExpandStep<kBits>(masks, zeros, values, to);
        values[0] = HWY_MIN(values[0], cursor.limit);
        values[1] = HWY_MIN(values[1], cursor.limit);
      }
      masks += PackedIntLayout::kStepMaskBytes;
      to += kStepBytes;
    }
  }
  cursor.masks = masks;
  cursor.values[0] = values[0];
  cursor.values[1] = values[1];
}

// Writes the bytes of the dense panel that `part` is, 64-byte aligned. The part
// begins where the last one ended. `fetchers` are null for what is in the
// cache.
template <int kBits>
HWY_NOINLINE void ExpandPart(const Part& part, SparseFetchers* fetchers,
                             SparseCursor& cursor, uint8_t* to) {
  ZeroCodes zeros;
  SetZeroCodes<kBits>(nullptr, zeros);
  for (int64_t g = part.group_begin; g < part.group_end; ++g) {
    if (cursor.zeros != nullptr) {
      SetZeroCodes<kBits>(cursor.zeros + g * kPanelRows, zeros);
    }
    const int64_t end = HWY_MIN(part.step_end, cursor.StepsOf(g));
    const int64_t steps = end - part.step_begin;
    if (cursor.two_of_four) {
      ExpandSteps<kBits, true>(steps, zeros, fetchers, cursor, to);
    } else {
      ExpandSteps<kBits, false>(steps, zeros, fetchers, cursor, to);
    }
    to += steps * kPanelRows * kBits;
    if (end < cursor.StepsOf(g)) continue;
    std::memcpy(to, cursor.masks, static_cast<size_t>(cursor.scales_bytes));
    cursor.masks += cursor.scales_bytes;
    to += cursor.scales_bytes;
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_int
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_MATMUL_INT_EXPAND_PART_INL_H_
