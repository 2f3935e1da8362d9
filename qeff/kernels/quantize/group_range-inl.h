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

// The bits of a floating type as an integer of the same order: the magnitude's
// bits are flipped where the sign is set. Its own inverse. -0 is below +0.
template <typename T>
constexpr T OrderedKey(T bits) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(bits ^ ((bits >> (8 * sizeof(T) - 1)) &
                                static_cast<T>(static_cast<U>(-1) >> 1)));
}

// How a source's elements are compared: as integers, which are as narrow as
// the type and have NaN and infinities at both ends.
template <class Source>
struct Keys {
  using T = int16_t;
  static constexpr T kInfinity =
      std::is_same<Source, F16Bytes>::value ? 0x7C00 : 0x7F80;
};
template <>
struct Keys<F32Bytes> {
  using T = int32_t;
  static constexpr T kInfinity = 0x7F800000;
};

// The smallest and largest of `count` elements and 0. Returns false when one
// is not finite.
template <class Source>
HWY_INLINE bool GroupRange(const uint8_t* from, size_t count, float* min,
                           float* max) {
  using T = typename Keys<Source>::T;
  const hn::ScalableTag<T> d;
  auto lowest = hn::Zero(d), highest = hn::Zero(d);
  const auto magnitude = hn::Set(d, std::numeric_limits<T>::max());
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto bits = LoadBytes(d, from + i * sizeof(T));
    const auto key = hn::Xor(
        bits, hn::And(hn::ShiftRight<8 * sizeof(T) - 1>(bits), magnitude));
    lowest = hn::Min(lowest, key);
    highest = hn::Max(highest, key);
  }
  T low = hn::GetLane(hn::MinOfLanes(d, lowest));
  T high = hn::GetLane(hn::MaxOfLanes(d, highest));
  for (; i < count; ++i) {
    T bits;
    std::memcpy(&bits, from + i * sizeof(T), sizeof(T));
    low = std::min(low, OrderedKey(bits));
    high = std::max(high, OrderedKey(bits));
  }
  const T low_bits = OrderedKey(low);
  uint8_t bytes[sizeof(T)];
  std::memcpy(bytes, &low_bits, sizeof(T));
  *min = Source::LoadOne(bytes);
  std::memcpy(bytes, &high, sizeof(T));
  *max = Source::LoadOne(bytes);
  constexpr T kInfinity = Keys<Source>::kInfinity;
  return high < kInfinity &&
         low > OrderedKey(
                   static_cast<T>(kInfinity | std::numeric_limits<T>::min()));
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_QUANTIZE_GROUP_RANGE_INL_H_
