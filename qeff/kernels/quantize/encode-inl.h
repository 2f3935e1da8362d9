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

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 1.5 * 2^23. In [2^23, 2^24) floats are whole numbers, so adding it rounds to
// nearest even and leaves the result in the low bits of the sum.
constexpr float kRoundingBase = 12582912.0f;
constexpr uint32_t kRoundingBaseBits = 0x4B400000u;

// Codes of vectors of elements of one group.
template <class DF>
class GroupEncoder {
 public:
  using D32 = hn::Rebind<uint32_t, DF>;

  HWY_INLINE GroupEncoder(float inverse, int32_t zero, int bits)
      : inverse_(hn::Set(DF(), inverse)),
        lo_(hn::Set(DF(), static_cast<float>(-zero))),
        hi_(hn::Set(DF(), static_cast<float>((1 << bits) - 1 - zero))),
        offset_(static_cast<uint32_t>(zero) - kRoundingBaseBits) {}

  // Codes less Offset().
  HWY_INLINE hn::Vec<D32> Encode(hn::Vec<DF> v) const {
    v = hn::Min(hn::Max(hn::Mul(v, inverse_), lo_), hi_);
    return hn::BitCast(D32(), hn::Add(v, hn::Set(DF(), kRoundingBase)));
  }
  // Takes off the base's bits and adds the zero point.
  HWY_INLINE uint32_t Offset() const { return offset_; }

 private:
  hn::Vec<DF> inverse_, lo_, hi_;
  uint32_t offset_;
};

// Encodes pairs of BF16 elements, 32 bits each, and returns how many elements:
// widening needs no shuffle then, and narrowing only one.
template <class DF>
HWY_INLINE size_t EncodePairs(DF df, const GroupEncoder<DF>& encoder,
                              const uint8_t* from, size_t count,
                              uint8_t* codes) {
  const hn::Rebind<uint32_t, DF> d32;
  const hn::Rebind<uint16_t, DF> d16;
  const size_t step = 2 * hn::Lanes(df);
  const auto upper = hn::Set(d32, 0xFFFF0000u);
  const auto offset = hn::Set(d32, encoder.Offset() + (encoder.Offset() << 8));
  size_t i = 0;
  for (; i + step <= count; i += step) {
    const auto pair = LoadBytes(d32, from + 2 * i);
    const auto even = encoder.Encode(hn::BitCast(df, hn::ShiftLeft<16>(pair)));
    const auto odd = encoder.Encode(hn::BitCast(df, hn::And(pair, upper)));
    const auto code = hn::Add(hn::Add(even, hn::ShiftLeft<8>(odd)), offset);
    StoreBytes(d16, hn::TruncateTo(d16, code), codes + i);
  }
  return i;
}

// QuantizeValue of `count` elements, a byte each.
template <class Source>
HWY_INLINE void EncodeGroup(const uint8_t* from, size_t count, float inverse,
                            int32_t zero, int bits, uint8_t* codes) {
  using DF = hn::ScalableTag<float>;
  const DF df;
  const hn::Rebind<uint32_t, DF> d32;
  const hn::Rebind<int32_t, DF> di;
  const hn::Rebind<uint8_t, DF> d8;
  const GroupEncoder<DF> encoder(inverse, zero, bits);
  const auto offset = hn::Set(d32, encoder.Offset());
  size_t i = 0;
  if constexpr (std::is_same<Source, BF16Bytes>::value) {
    i = EncodePairs(df, encoder, from, count, codes);
  }
  for (; i + hn::Lanes(df) <= count; i += hn::Lanes(df)) {
    const auto code = hn::Add(
        encoder.Encode(Source::LoadNumbers(df, from + i * Source::kBytes)),
        offset);
    // Not TruncateTo: Highway 1.0.3 gets it wrong in AVX3_DL for these types.
    StoreBytes(d8, hn::DemoteTo(d8, hn::BitCast(di, code)), codes + i);
  }
  const GroupParams params = {1.0f / inverse, inverse, zero};
  for (; i < count; ++i) {
    codes[i] =
        QuantizeValue(Source::LoadOne(from + i * Source::kBytes), params, bits);
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_QUANTIZE_ENCODE_INL_H_
