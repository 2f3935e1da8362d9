// SPDX-License-Identifier: Apache-2.0
//
// Per-target: vectors of float32 from and to storage types, at any alignment.
// Integer arithmetic on purpose: hardware conversions differ between targets
// in what they do with NaN, and Highway's emulated ones in rounding.

#if defined(QEFF_KERNELS_CONVERT_CONVERT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_CONVERT_CONVERT_INL_H_
#undef QEFF_KERNELS_CONVERT_CONVERT_INL_H_
#else
#define QEFF_KERNELS_CONVERT_CONVERT_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "qeff/tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A vector of D from unaligned bytes, and back. On HWY_SCALAR, LoadU
// dereferences a T*, which must not be misaligned.
template <class D>
HWY_INLINE hn::Vec<D> LoadBytes(D d, const uint8_t* from) {
  using T = hn::TFromD<D>;
#if HWY_TARGET == HWY_SCALAR
  T value;
  std::memcpy(&value, from, sizeof(T));
  return hn::Set(d, value);
#else
  return hn::LoadU(d, reinterpret_cast<const T*>(from));
#endif
}

template <class D>
HWY_INLINE void StoreBytes(D d, hn::Vec<D> value, uint8_t* to) {
  using T = hn::TFromD<D>;
#if HWY_TARGET == HWY_SCALAR
  (void)d;
  const T scalar = hn::GetLane(value);
  std::memcpy(to, &scalar, sizeof(T));
#else
  hn::StoreU(value, d, reinterpret_cast<T*>(to));
#endif
}

// Each type below has kBytes an element, Load (a vector), LoadNumbers (the
// same without NaN) and LoadOne.
struct F32Bytes {
  static constexpr size_t kBytes = 4;

  template <class DF>
  static HWY_INLINE hn::Vec<DF> Load(DF df, const uint8_t* from) {
    return LoadBytes(df, from);
  }
  template <class DF>
  static HWY_INLINE hn::Vec<DF> LoadNumbers(DF df, const uint8_t* from) {
    return Load(df, from);
  }
  static HWY_INLINE float LoadOne(const uint8_t* from) {
    float value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
};

struct BF16Bytes {
  static constexpr size_t kBytes = 2;

  template <class DF>
  static HWY_INLINE hn::Vec<DF> Load(DF df, const uint8_t* from) {
    const hn::Rebind<uint16_t, DF> d16;
    const hn::Rebind<uint32_t, DF> d32;
    const auto wide = hn::PromoteTo(d32, LoadBytes(d16, from));
    return hn::BitCast(df, hn::ShiftLeft<16>(wide));
  }
  template <class DF>
  static HWY_INLINE hn::Vec<DF> LoadNumbers(DF df, const uint8_t* from) {
    return Load(df, from);
  }
  static HWY_INLINE float LoadOne(const uint8_t* from) {
    uint16_t bits;
    std::memcpy(&bits, from, sizeof(bits));
    return BF16ToFloat(bits);
  }
};

// The values of F16 bits in the low halves, as F16ToFloat.
template <class DF>
HWY_INLINE hn::Vec<DF> FromF16Bits(DF df,
                                   hn::Vec<hn::Rebind<uint32_t, DF>> half) {
  const hn::Rebind<uint32_t, DF> d32;
  const hn::Rebind<int32_t, DF> di;
  const auto magnitude = hn::And(half, hn::Set(d32, 0x7FFFu));
  const auto sign = hn::ShiftLeft<16>(hn::Xor(half, magnitude));
  // The exponent's bias is 15 here and 127 there.
  const auto rebias = hn::Set(d32, 112u << 23);
  const auto normal = hn::Add(hn::ShiftLeft<13>(magnitude), rebias);
  const auto signed_magnitude = hn::BitCast(di, magnitude);
  const auto subnormal = hn::BitCast(
      d32, hn::Mul(hn::ConvertTo(df, signed_magnitude), hn::Set(df, 0x1p-24f)));
  const auto is_subnormal =
      hn::RebindMask(d32, hn::Lt(signed_magnitude, hn::Set(di, 0x400)));
  const auto is_special =
      hn::RebindMask(d32, hn::Gt(signed_magnitude, hn::Set(di, 0x7BFF)));
  auto bits = hn::IfThenElse(is_subnormal, subnormal, normal);
  bits = hn::IfThenElse(is_special, hn::Add(normal, rebias), bits);
  return hn::BitCast(df, hn::Or(bits, sign));
}

struct F16Bytes {
  static constexpr size_t kBytes = 2;

  template <class DF>
  static HWY_INLINE hn::Vec<DF> Load(DF df, const uint8_t* from) {
    const hn::Rebind<uint16_t, DF> d16;
    const hn::Rebind<uint32_t, DF> d32;
    return FromF16Bits(df, hn::PromoteTo(d32, LoadBytes(d16, from)));
  }
  // As Load, for elements that are known not to be NaN: F16C is exact then.
  template <class DF>
  static HWY_INLINE hn::Vec<DF> LoadNumbers(DF df, const uint8_t* from) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || \
    HWY_TARGET == HWY_AVX3_DL
    const hn::Rebind<uint16_t, DF> d16;
    const hn::Rebind<hwy::float16_t, DF> dh;
    return hn::PromoteTo(df, hn::BitCast(dh, LoadBytes(d16, from)));
#else
    return Load(df, from);
#endif
  }
  static HWY_INLINE float LoadOne(const uint8_t* from) {
    uint16_t bits;
    std::memcpy(&bits, from, sizeof(bits));
    return F16ToFloat(bits);
  }
};

// Rounds to BF16, as FloatToBF16; the result is in the low halves.
template <class DF>
HWY_INLINE hn::Vec<hn::Rebind<uint32_t, DF>> ToBF16Bits(DF /*df*/,
                                                        hn::Vec<DF> value) {
  const hn::Rebind<uint32_t, DF> d32;
  const auto bits = hn::BitCast(d32, value);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto odd = hn::And(upper, hn::Set(d32, 1u));
  const auto rounded =
      hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7FFFu))));
  const auto quiet = hn::Or(upper, hn::Set(d32, 0x40u));
  const auto nan = hn::RebindMask(d32, hn::IsNaN(value));
  return hn::IfThenElse(nan, quiet, rounded);
}

// Rounds to F16, as FloatToF16; the result is in the low halves.
template <class DF>
HWY_INLINE hn::Vec<hn::Rebind<uint32_t, DF>> ToF16Bits(DF df,
                                                       hn::Vec<DF> value) {
  const hn::Rebind<uint32_t, DF> d32;
  const hn::Rebind<int32_t, DF> di;
  const auto bits = hn::BitCast(d32, value);
  const auto magnitude = hn::And(bits, hn::Set(d32, 0x7FFFFFFFu));
  const auto sign = hn::ShiftRight<16>(hn::Xor(bits, magnitude));
  const auto compared = hn::BitCast(di, magnitude);
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(d32, 1u));
  const auto rebased = hn::Sub(magnitude, hn::Set(d32, 112u << 23));
  const auto normal =
      hn::ShiftRight<13>(hn::Add(rebased, hn::Add(odd, hn::Set(d32, 0xFFFu))));
  // A subnormal is a multiple of 2^-24. Adding 0.5, whose last bit is 2^-24,
  // rounds to such a multiple and leaves it in the low bits.
  const auto half = hn::Set(df, 0.5f);
  const auto subnormal =
      hn::Sub(hn::BitCast(d32, hn::Add(hn::BitCast(df, magnitude), half)),
              hn::BitCast(d32, half));
  const auto is_subnormal =
      hn::RebindMask(d32, hn::Lt(compared, hn::Set(di, 0x38800000)));
  const auto overflows =
      hn::RebindMask(d32, hn::Gt(compared, hn::Set(di, 0x477FEFFF)));
  const auto nan = hn::RebindMask(d32, hn::IsNaN(value));
  auto result = hn::IfThenElse(is_subnormal, subnormal, normal);
  result = hn::IfThenElse(overflows, hn::Set(d32, 0x7C00u), result);
  result = hn::IfThenElse(nan, hn::Set(d32, 0x7E00u), result);
  return hn::Or(result, sign);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_CONVERT_CONVERT_INL_H_
