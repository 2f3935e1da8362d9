// SPDX-License-Identifier: Apache-2.0
//
// Per-target: the range of a group of weights, compared as integers.

#if defined(QEFF_KERNELS_QUANTIZE_GROUP_RANGE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_QUANTIZE_GROUP_RANGE_INL_H_
#undef QEFF_KERNELS_QUANTIZE_GROUP_RANGE_INL_H_
#else
#define QEFF_KERNELS_QUANTIZE_GROUP_RANGE_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "hwy/highway.h"
#include "qeff/kernels/convert/convert-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A group's range is two numbers: its largest element and, with the sign bit,
// its smallest, both 0 if no element is on their side. As integers, bits of
// positive numbers are ordered like them and above all negative ones if signed;
// those of negative numbers are in reverse order and above all positive ones if
// unsigned. NaN and infinities are the largest of either sign.
template <class Source>
struct RangeBits {
  using T = uint16_t;
  static constexpr T kSign = 0x8000;
  static constexpr T kInfinity =
      std::is_same<Source, F16Bytes>::value ? 0x7C00 : 0x7F80;
};
template <>
struct RangeBits<F32Bytes> {
  using T = uint32_t;
  static constexpr T kSign = 0x80000000u;
  static constexpr T kInfinity = 0x7F800000u;
};

// Ranges of the groups of a piece. Of 16-bit elements, a word of `words` holds
// both numbers, the largest in the low half; of F32, `words` holds the largest
// and `lowest_words` the smallest.
struct RangeWords {
  uint32_t* words;
  uint32_t* lowest_words;
};

// The ranges of a vector of groups.
template <class Source, class DF>
HWY_INLINE void LoadRanges(DF df, const RangeWords& ranges, size_t group,
                           hn::Vec<DF>* lo, hn::Vec<DF>* hi) {
  const hn::Rebind<uint32_t, DF> d32;
  const auto words = hn::Load(d32, ranges.words + group);
  if constexpr (std::is_same<Source, F32Bytes>::value) {
    *lo = hn::BitCast(df, hn::Load(d32, ranges.lowest_words + group));
    *hi = hn::BitCast(df, words);
  } else if constexpr (std::is_same<Source, BF16Bytes>::value) {
    *lo = hn::BitCast(df, hn::And(words, hn::Set(d32, 0xFFFF0000u)));
    *hi = hn::BitCast(df, hn::ShiftLeft<16>(words));
  } else {
    *lo = FromF16Bits(df, hn::ShiftRight<16>(words));
    *hi = FromF16Bits(df, hn::And(words, hn::Set(d32, 0xFFFFu)));
  }
}

#if HWY_TARGET == HWY_SCALAR

// Stores the ranges of groups of `group` of the `count` elements of a piece,
// the last of which may be shorter. Returns false when one is not finite.
template <class Source, size_t kGroup>
bool PieceRanges(const uint8_t* row, size_t count, size_t group,
                 const RangeWords& to) {
  using T = typename RangeBits<Source>::T;
  T worst = 0;
  for (size_t begin = 0, g = 0; begin < count; begin += group, ++g) {
    T highest = 0, lowest = RangeBits<Source>::kSign;
    const size_t end = std::min(count, begin + group);
    for (size_t i = begin; i < end; ++i) {
      T bits;
      std::memcpy(&bits, row + i * sizeof(T), sizeof(T));
      if (bits < RangeBits<Source>::kSign) highest = std::max(highest, bits);
      lowest = std::max(lowest, bits);
    }
    const T magnitude = lowest ^ RangeBits<Source>::kSign;
    worst = std::max({worst, highest, magnitude});
    to.words[g] = highest;
    if constexpr (sizeof(T) == 2) {
      to.words[g] |= static_cast<uint32_t>(lowest) << 16;
    } else {
      to.lowest_words[g] = lowest;
    }
  }
  return worst < RangeBits<Source>::kInfinity;
}

#else

// The larger ones of two lanes of `a` and of two lanes of `b`, alternating. DS
// has the lanes that are moved, D those that are compared.
template <class DS, class D>
HWY_INLINE hn::Vec<D> MaxOfPairs(DS ds, D d, hn::Vec<D> a, hn::Vec<D> b) {
  const auto va = hn::BitCast(ds, a);
  const auto vb = hn::BitCast(ds, b);
  return hn::Max(hn::BitCast(d, hn::InterleaveLower(ds, va, vb)),
                 hn::BitCast(d, hn::InterleaveUpper(ds, va, vb)));
}

// Ranges of the lanes of vectors of one group.
template <class Source>
class LaneRanges {
 public:
  using T = typename RangeBits<Source>::T;
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;

  HWY_INLINE LaneRanges(const uint8_t* from, size_t count)
      : highest(hn::Zero(D())), lowest(hn::Set(D(), RangeBits<Source>::kSign)) {
    constexpr size_t kLanes = hn::MaxLanes(D());
    size_t i = 0;
    HWY_UNROLL(4)
    for (; i + kLanes <= count; i += kLanes) Add(from + i * sizeof(T));
    if (i == count) return;
    if (count >= kLanes) {
      Add(from + (count - kLanes) * sizeof(T));
    } else {
      // Zeros change no range.
      HWY_ALIGN uint8_t few[kLanes * sizeof(T)] = {};
      std::memcpy(few, from, count * sizeof(T));
      Add(few);
    }
  }

  // Both of a lane next to each other, 32 bits.
  HWY_INLINE V Pairs() const { return MaxOfPairs(D(), D(), highest, lowest); }

  V highest, lowest;

 private:
  HWY_INLINE void Add(const uint8_t* from) {
    const hn::RebindToSigned<D> di;
    const V bits = LoadBytes(D(), from);
    highest = hn::BitCast(
        D(), hn::Max(hn::BitCast(di, highest), hn::BitCast(di, bits)));
    lowest = hn::Max(lowest, bits);
  }
};

// The larger lanes of all 128-bit blocks.
template <class D>
HWY_INLINE auto MaxOfBlocks(D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) * sizeof(hn::TFromD<D>) == 16) {
    (void)d;
    return v;
  } else {
    const hn::Half<D> half;
    return MaxOfBlocks(half,
                       hn::Max(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

// The larger lanes of each of four vectors, 32 bits of each, in one block: a
// sixth of the shuffles that four reductions take.
template <class D>
HWY_INLINE auto MaxOfFour(D d, hn::Vec<D> v0, hn::Vec<D> v1, hn::Vec<D> v2,
                          hn::Vec<D> v3) {
  const hn::Repartition<uint32_t, D> d32;
  const hn::Repartition<uint64_t, D> d64;
  return MaxOfBlocks(d, MaxOfPairs(d64, d, MaxOfPairs(d32, d, v0, v1),
                                   MaxOfPairs(d32, d, v2, v3)));
}

// Stores ranges, four at a time, and remembers whether all were finite.
template <class Source>
class RangeWriter {
 public:
  using Lanes = LaneRanges<Source>;

  explicit RangeWriter(const RangeWords& to)
      : to_(to), worst_(hn::Zero(Block())) {}

  HWY_INLINE void Write(const Lanes& r0, const Lanes& r1, const Lanes& r2,
                        const Lanes& r3) {
    const typename Lanes::D d;
    if constexpr (Source::kBytes == 2) {
      Store(MaxOfFour(d, r0.Pairs(), r1.Pairs(), r2.Pairs(), r3.Pairs()),
            to_.words);
    } else {
      Store(MaxOfFour(d, r0.highest, r1.highest, r2.highest, r3.highest),
            to_.words);
      Store(MaxOfFour(d, r0.lowest, r1.lowest, r2.lowest, r3.lowest),
            to_.lowest_words);
    }
    to_.words += 4;
    to_.lowest_words += 4;
  }
  HWY_INLINE bool AllFinite() const {
    const hn::RebindToSigned<Block> di;
    return hn::AllTrue(di, hn::Lt(hn::BitCast(di, worst_),
                                  hn::Set(di, RangeBits<Source>::kInfinity)));
  }

 private:
  using T = typename RangeBits<Source>::T;
  using Block = hn::CappedTag<T, 16 / sizeof(T)>;

  HWY_INLINE void Store(hn::Vec<Block> four, uint32_t* to) {
    const hn::Repartition<uint32_t, Block> d32;
    worst_ = hn::Max(
        worst_, hn::And(four, hn::Set(Block(), RangeBits<Source>::kSign - 1)));
    hn::Store(hn::BitCast(d32, four), d32, to);
  }

  RangeWords to_;
  hn::Vec<Block> worst_;
};

// The last one to four groups of a piece.
template <class Source>
HWY_NOINLINE void WriteLast(const uint8_t* from, size_t count, size_t group,
                            RangeWriter<Source>* writer) {
  using Lanes = LaneRanges<Source>;
  const Lanes r0(from, std::min(group, count));
  Lanes rest[3] = {r0, r0, r0};
  for (size_t g = 1; g < 4 && g * group < count; ++g) {
    rest[g - 1] = Lanes(from + g * group * Source::kBytes,
                        std::min(group, count - g * group));
  }
  writer->Write(r0, rest[0], rest[1], rest[2]);
}

// Stores the ranges of groups of `group` (kGroup, unless that is 0) of the
// `count` elements of a piece. The last group may be shorter. Up to three words
// after the last are written too. Returns false when an element is not finite.
template <class Source, size_t kGroup>
bool PieceRanges(const uint8_t* row, size_t count, size_t any_group,
                 const RangeWords& to) {
  using Lanes = LaneRanges<Source>;
  const size_t group = kGroup != 0 ? kGroup : any_group;
  const size_t bytes = group * Source::kBytes;
  RangeWriter<Source> writer(to);
  for (; count >= 4 * group; count -= 4 * group, row += 4 * bytes) {
    writer.Write(Lanes(row, group), Lanes(row + bytes, group),
                 Lanes(row + 2 * bytes, group), Lanes(row + 3 * bytes, group));
  }
  if (count != 0) WriteLast(row, count, group, &writer);
  return writer.AllFinite();
}

#endif  // HWY_TARGET == HWY_SCALAR

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_QUANTIZE_GROUP_RANGE_INL_H_
