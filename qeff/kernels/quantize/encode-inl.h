// SPDX-License-Identifier: Apache-2.0
//
// Per-target: from the elements of a group and its parameters to codes.

#if defined(QEFF_KERNELS_QUANTIZE_ENCODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_QUANTIZE_ENCODE_INL_H_
#undef QEFF_KERNELS_QUANTIZE_ENCODE_INL_H_
#else
#define QEFF_KERNELS_QUANTIZE_ENCODE_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 1.5 * 2^23. In [2^23, 2^24) floats are whole numbers, so adding it rounds to
// nearest even and leaves the result in the low bits of the sum. The low half
// of its own bits is zero.
constexpr float kRoundingBase = 12582912.0f;
constexpr int32_t kRoundingBaseBits = 0x4B400000;

constexpr size_t kLineBytes = 64;

// How the elements of a group become codes.
struct GroupCode {
  float inverse;
  int32_t zero;
  int bits;
  size_t ahead_bytes;  // lines so far beyond an element are fetched meanwhile
};

// Element times inverse, rounded, in the low bits.
template <class DF>
HWY_INLINE hn::Vec<DF> RoundedProduct(DF df, hn::Vec<DF> v,
                                      hn::Vec<DF> inverse) {
  return hn::Add(hn::Mul(v, inverse), hn::Set(df, kRoundingBase));
}

#if HWY_TARGET != HWY_SCALAR
// RoundedProduct of as many elements as there are lanes, in 16 bits each.
template <class Source, class D16, class DF>
HWY_INLINE hn::Vec<D16> RoundedWords(D16 d16, DF df, const uint8_t* from,
                                     hn::Vec<DF> inverse) {
  if constexpr (std::is_same<Source, BF16Bytes>::value) {
    // In pairs: widening and narrowing need no shuffle then.
    const hn::Rebind<uint32_t, DF> d32;
    const auto pair = LoadBytes(d32, from);
    const auto even =
        RoundedProduct(df, hn::BitCast(df, hn::ShiftLeft<16>(pair)), inverse);
    const auto odd = RoundedProduct(
        df, hn::BitCast(df, hn::And(pair, hn::Set(d32, 0xFFFF0000u))), inverse);
    return hn::OddEven(
        hn::BitCast(d16, hn::ShiftLeft<16>(hn::BitCast(d32, odd))),
        hn::BitCast(d16, even));
  }
  const auto lower = RoundedProduct(df, Source::LoadNumbers(df, from), inverse);
  const auto upper = RoundedProduct(
      df, Source::LoadNumbers(df, from + hn::Lanes(df) * Source::kBytes),
      inverse);
  return hn::ConcatEven(d16, hn::BitCast(d16, upper), hn::BitCast(d16, lower));
}

// QuantizeValue of whole vectors; returns of how many elements. What is
// clamped are whole numbers: between bounds that are whole, too, rounding
// first changes nothing, and 16 bits a lane are enough (a scale is rounded by
// half at most, so that no number is beyond 1.5 * 256). Saturation clamps:
// codes are shifted so that the top one is the largest number there is.
template <class Source>
HWY_INLINE size_t EncodeVectors(const uint8_t* from, size_t count,
                                const GroupCode& code, uint8_t* codes) {
  const hn::ScalableTag<int16_t> d16;
  const hn::Repartition<float, decltype(d16)> df;
  const hn::Rebind<uint16_t, decltype(d16)> du16;
  const hn::Rebind<uint8_t, decltype(d16)> d8;
  constexpr size_t kStep = hn::MaxLanes(d16);
  const int shift = 0x7FFF - ((1 << code.bits) - 1);
  const auto inverse = hn::Set(df, code.inverse);
  const auto offset = hn::Set(d16, static_cast<int16_t>(code.zero + shift));
  const auto vshift = hn::Set(du16, static_cast<uint16_t>(shift));
  size_t i = 0;
  HWY_UNROLL(4)
  for (; i + kStep <= count; i += kStep) {
    const uint8_t* at = from + i * Source::kBytes;
    for (size_t j = 0; j < kStep * Source::kBytes; j += kLineBytes) {
      FetchIntoL2(at + code.ahead_bytes + j);
    }
    const auto shifted =
        hn::SaturatedAdd(RoundedWords<Source>(d16, df, at, inverse), offset);
    const auto clamped = hn::SaturatedSub(hn::BitCast(du16, shifted), vshift);
    StoreBytes(d8, hn::TruncateTo(d8, clamped), codes + i);
  }
  return i;
}
#endif  // HWY_TARGET != HWY_SCALAR

// QuantizeValue of `count` elements, a byte each.
template <class Source>
HWY_INLINE void EncodeGroup(const uint8_t* from, size_t count,
                            const GroupCode& code, uint8_t* codes) {
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  i = EncodeVectors<Source>(from, count, code, codes);
  if (i == count) return;
#endif
  const hn::ScalableTag<float> df;
  const hn::Rebind<int32_t, decltype(df)> di;
  const hn::Rebind<uint8_t, decltype(df)> d8;
  const auto inverse = hn::Set(df, code.inverse);
  const auto offset = hn::Set(di, code.zero - kRoundingBaseBits);
  const auto top = hn::Set(di, (1 << code.bits) - 1);
  for (; i + hn::Lanes(df) <= count; i += hn::Lanes(df)) {
    const auto rounded = RoundedProduct(
        df, Source::LoadNumbers(df, from + i * Source::kBytes), inverse);
    const auto sum = hn::Add(hn::BitCast(di, rounded), offset);
    const auto clamped = hn::Min(hn::Max(sum, hn::Zero(di)), top);
    // Not TruncateTo: Highway 1.0.3 gets it wrong in AVX3_DL for these types.
    StoreBytes(d8, hn::DemoteTo(d8, clamped), codes + i);
  }
  const GroupParams params = {1.0f / code.inverse, code.inverse, code.zero};
  for (; i < count; ++i) {
    codes[i] = QuantizeValue(Source::LoadOne(from + i * Source::kBytes), params,
                             code.bits);
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_QUANTIZE_ENCODE_INL_H_
