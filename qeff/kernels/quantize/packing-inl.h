// SPDX-License-Identifier: Apache-2.0
//
// Per-target: dense packing of b-bit codes. Eight codes, one a byte, are a
// 64-bit lane; three steps of shift and merge bring their bits together, for
// any b and without shuffles (HWY_SCALAR has none). Then the low b bytes of
// each lane follow each other in memory.

#if defined(QEFF_KERNELS_QUANTIZE_PACKING_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_QUANTIZE_PACKING_INL_H_
#undef QEFF_KERNELS_QUANTIZE_PACKING_INL_H_
#else
#define QEFF_KERNELS_QUANTIZE_PACKING_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "qeff/kernels/convert/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Codes of one lane.
constexpr size_t kLaneCodes = 8;

constexpr uint64_t kLowBytes = 0x00FF00FF00FF00FF;
constexpr uint64_t kLowPairs = 0x0000FFFF0000FFFF;
constexpr uint64_t kLowHalf = 0x00000000FFFFFFFF;

// Moves the upper part of each field of the lane down next to the lower one.
// kHalf: neither fills more than half of the bits that it stands in.
template <int kShift, bool kHalf, class D>
HWY_INLINE hn::Vec<D> Merge(D d, hn::Vec<D> v, uint64_t low) {
  const auto mask = hn::Set(d, low);
  if constexpr (kHalf) {
    // The lower parts vanish when they are moved like the upper ones.
    return hn::And(hn::Or(v, hn::ShiftRight<kShift>(v)), mask);
  }
  return hn::Or(hn::And(v, mask), hn::ShiftRight<kShift>(hn::AndNot(mask, v)));
}

// The inverse: `low` masks the fields afterwards.
template <int kShift, class D>
HWY_INLINE hn::Vec<D> Spread(D d, hn::Vec<D> v, uint64_t low) {
  const auto mask = hn::Set(d, low);
  return hn::Or(hn::And(v, mask), hn::AndNot(mask, hn::ShiftLeft<kShift>(v)));
}

// Masks of the lower of two neighbouring fields of `bits`, which begin every
// `stride` bits.
constexpr uint64_t LowFields(int bits, int stride) {
  uint64_t mask = 0;
  for (int begin = 0; begin < 64; begin += stride) {
    mask |= ((uint64_t{1} << bits) - 1) << begin;
  }
  return mask;
}

template <int kBits, class D>
HWY_INLINE hn::Vec<D> PackLanes(D d, hn::Vec<D> codes) {
  if constexpr (kBits == 8) return codes;
  constexpr int kFree = 8 - kBits;
  constexpr bool kHalf = kBits <= 4;
  codes = Merge<kFree, kHalf>(d, codes, kLowBytes);
  codes = Merge<2 * kFree, kHalf>(d, codes, kLowPairs);
  return Merge<4 * kFree, kHalf>(d, codes, kLowHalf);
}

template <int kBits, class D>
HWY_INLINE hn::Vec<D> UnpackLanes(D d, hn::Vec<D> packed) {
  if constexpr (kBits == 8) return packed;
  constexpr int kFree = 8 - kBits;
  constexpr uint64_t kAll = LowFields(kBits, 8);
  packed = Spread<4 * kFree>(d, packed, LowFields(4 * kBits, 64));
  packed = Spread<2 * kFree>(d, packed, LowFields(2 * kBits, 32));
  packed = Spread<kFree>(d, packed, LowFields(kBits, 16));
  return hn::And(packed, hn::Set(d, kAll));
}

// Lanes of a vector of 64-bit lanes from and to kBits bytes each.
template <int kBits, class D>
HWY_INLINE void StoreLanes(D d, hn::Vec<D> lanes, uint8_t* to) {
  if constexpr (kBits == 8) {
    StoreBytes(d, lanes, to);
  } else if constexpr (kBits == 4) {
    const hn::Rebind<uint32_t, D> d32;
    StoreBytes(d32, hn::TruncateTo(d32, lanes), to);
  } else if constexpr (kBits == 2) {
    const hn::Rebind<uint16_t, D> d16;
    StoreBytes(d16, hn::TruncateTo(d16, lanes), to);
  } else {
    HWY_ALIGN uint64_t buffer[hn::MaxLanes(D())];
    hn::Store(lanes, d, buffer);
    for (size_t i = 0; i < hn::Lanes(d); ++i) {
      std::memcpy(to + i * kBits, &buffer[i], kBits);
    }
  }
}

template <int kBits, class D>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const uint8_t* from) {
  const hn::Rebind<uint32_t, D> d32;
  if constexpr (kBits == 8) return LoadBytes(d, from);
  if constexpr (kBits == 4) return hn::PromoteTo(d, LoadBytes(d32, from));
  if constexpr (kBits == 2) {
    const hn::Rebind<uint16_t, D> d16;
    return hn::PromoteTo(d, hn::PromoteTo(d32, LoadBytes(d16, from)));
  }
  HWY_ALIGN uint64_t buffer[hn::MaxLanes(D())] = {};
  for (size_t i = 0; i < hn::Lanes(d); ++i) {
    std::memcpy(&buffer[i], from + i * kBits, kBits);
  }
  return hn::Load(d, buffer);
}

#if HWY_TARGET != HWY_SCALAR
// Packs codes of 4 bits, two a byte; returns how many lanes of eight.
HWY_INLINE size_t PackNibbles(const uint8_t* codes, size_t lanes, uint8_t* to) {
  const hn::ScalableTag<uint16_t> d16;
  const hn::Rebind<uint8_t, decltype(d16)> d8;
  constexpr size_t kStep = 2 * hn::MaxLanes(d16) / kLaneCodes;
  size_t i = 0;
  HWY_UNROLL(4)
  for (; i + kStep <= lanes; i += kStep) {
    const auto pairs = LoadBytes(d16, codes + kLaneCodes * i);
    const auto merged = hn::Or(pairs, hn::ShiftRight<4>(pairs));
    StoreBytes(d8, hn::TruncateTo(d8, merged), to + 4 * i);
  }
  return i;
}

// Two 64-bit lanes are a block, of which 2 * kBits bytes are stored.
template <int kBits>
struct BlockBytes {
  // By how many lanes the rest of a block overlaps what follows.
  static constexpr size_t kOverlapLanes = (15 - kBits) / kBits;

  constexpr BlockBytes() {
    for (int i = 0; i < 16; ++i) inverse[i] = 0x80;  // a zero
    for (int i = 0; i < 2 * kBits; ++i) {
      const int at = i / kBits * 8 + i % kBits;
      index[i] = static_cast<uint8_t>(at);
      inverse[at] = static_cast<uint8_t>(i);
    }
  }
  // Where the bytes that are stored are in the block, and the inverse.
  alignas(16) uint8_t index[16] = {};
  alignas(16) uint8_t inverse[16] = {};
};

// Stores the blocks of `bytes` kStride apart. Each overlaps the next.
template <size_t kStride, class D>
HWY_INLINE void StoreBlocks(D d, hn::Vec<D> bytes, uint8_t* to) {
  if constexpr (hn::MaxLanes(D()) == 16) {
    StoreBytes(d, bytes, to);
  } else {
    const hn::Half<D> half;
    StoreBlocks<kStride>(half, hn::LowerHalf(half, bytes), to);
    StoreBlocks<kStride>(half, hn::UpperHalf(half, bytes),
                         to + hn::MaxLanes(half) / 16 * kStride);
  }
}

// Packs codes of an odd number of bits or of 6; returns how many lanes. Stores
// whole blocks, so that the last lanes are left to StoreLanes.
template <int kBits>
HWY_INLINE size_t PackByBlocks(const uint8_t* codes, size_t lanes,
                               uint8_t* to) {
  static constexpr BlockBytes<kBits> kBytes;
  const hn::ScalableTag<uint64_t> d;
  const hn::Repartition<uint8_t, decltype(d)> d8;
  constexpr size_t kStep = hn::MaxLanes(d);
  const auto low_bytes = hn::LoadDup128(d8, kBytes.index);
  size_t i = 0;
  for (; i + kStep + kBytes.kOverlapLanes <= lanes; i += kStep) {
    const auto packed =
        PackLanes<kBits>(d, LoadBytes(d, codes + kLaneCodes * i));
    StoreBlocks<2 * kBits>(
        d8, hn::TableLookupBytes(hn::BitCast(d8, packed), low_bytes),
        to + i * kBits);
  }
  return i;
}
#endif

// Packs `lanes` * 8 codes.
template <int kBits>
HWY_INLINE void PackLaneRun(const uint8_t* codes, size_t lanes, uint8_t* to) {
  const hn::ScalableTag<uint64_t> d;
  const hn::CappedTag<uint64_t, 1> d1;
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kBits == 4) {
    i = PackNibbles(codes, lanes, to);
  } else if constexpr (kBits % 2 != 0 || kBits == 6) {
    i = PackByBlocks<kBits>(codes, lanes, to);
  }
#endif
  for (; i + hn::Lanes(d) <= lanes; i += hn::Lanes(d)) {
    StoreLanes<kBits>(d,
                      PackLanes<kBits>(d, LoadBytes(d, codes + kLaneCodes * i)),
                      to + i * kBits);
  }
  for (; i < lanes; ++i) {
    const uint64_t lane = hn::GetLane(
        PackLanes<kBits>(d1, LoadBytes(d1, codes + kLaneCodes * i)));
    std::memcpy(to + i * kBits, &lane, kBits);
  }
}

#if HWY_TARGET != HWY_SCALAR
// The inverse of StoreBlocks.
template <size_t kStride, class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const uint8_t* from) {
  if constexpr (hn::MaxLanes(D()) == 16) {
    return LoadBytes(d, from);
  } else {
    const hn::Half<D> half;
    const auto upper =
        LoadBlocks<kStride>(half, from + hn::MaxLanes(half) / 16 * kStride);
    return hn::Combine(d, upper, LoadBlocks<kStride>(half, from));
  }
}

// The inverse of PackByBlocks. Loads whole blocks.
template <int kBits>
HWY_INLINE size_t UnpackByBlocks(const uint8_t* from, size_t lanes,
                                 uint8_t* codes) {
  static constexpr BlockBytes<kBits> kBytes;
  const hn::ScalableTag<uint64_t> d;
  const hn::Repartition<uint8_t, decltype(d)> d8;
  constexpr size_t kStep = hn::MaxLanes(d);
  const auto lane_bytes = hn::LoadDup128(d8, kBytes.inverse);
  size_t i = 0;
  for (; i + kStep + kBytes.kOverlapLanes <= lanes; i += kStep) {
    const auto blocks = LoadBlocks<2 * kBits>(d8, from + i * kBits);
    const auto packed =
        hn::BitCast(d, hn::TableLookupBytesOr0(blocks, lane_bytes));
    StoreBytes(d, UnpackLanes<kBits>(d, packed), codes + kLaneCodes * i);
  }
  return i;
}
#endif

// Unpacks `lanes` * 8 codes.
template <int kBits>
HWY_INLINE void UnpackLaneRun(const uint8_t* from, size_t lanes,
                              uint8_t* codes) {
  const hn::ScalableTag<uint64_t> d;
  const hn::CappedTag<uint64_t, 1> d1;
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kBits % 2 != 0 || kBits == 6) {
    i = UnpackByBlocks<kBits>(from, lanes, codes);
  }
#endif
  for (; i + hn::Lanes(d) <= lanes; i += hn::Lanes(d)) {
    StoreBytes(d, UnpackLanes<kBits>(d, LoadLanes<kBits>(d, from + i * kBits)),
               codes + kLaneCodes * i);
  }
  for (; i < lanes; ++i) {
    uint64_t lane = 0;
    std::memcpy(&lane, from + i * kBits, kBits);
    StoreBytes(d1, UnpackLanes<kBits>(d1, hn::Set(d1, lane)),
               codes + kLaneCodes * i);
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_QUANTIZE_PACKING_INL_H_
