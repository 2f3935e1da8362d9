// SPDX-License-Identifier: Apache-2.0
//
// Per-target: elementary functions of vectors of float32, and loops over rows.
// Made of operations that are rounded the same way everywhere (no
// multiply-add that only some targets fuse, no table of the library's): the
// same bits on every target.

#if defined(QEFF_KERNELS_ELEMENTWISE_FLOAT_MATH_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_ELEMENTWISE_FLOAT_MATH_INL_H_
#undef QEFF_KERNELS_ELEMENTWISE_FLOAT_MATH_INL_H_
#else
#define QEFF_KERNELS_ELEMENTWISE_FLOAT_MATH_INL_H_
#endif

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// FusedMulAdd is a * b + c, rounded once, on every target. Those without an
// instruction for it take some twenty operations for two numbers.
#if HWY_TARGET == HWY_SCALAR

template <class DF>
HWY_INLINE hn::Vec<DF> FusedMulAdd(DF df, hn::Vec<DF> a, hn::Vec<DF> b,
                                   hn::Vec<DF> c) {
  return hn::Set(df, std::fma(hn::GetLane(a), hn::GetLane(b), hn::GetLane(c)));
}

#elif HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SSE4

// a * b + c rounded to odd, which is exact in all that float32 keeps: the
// product of two of its numbers is exact, and the error of the sum (Knuth's
// TwoSum) says on which side of the exact one the nearest double is. See
// Boldo and Melquiond, "Emulation of FMA and Correctly Rounded Sums", 2008.
template <class DD>
HWY_INLINE hn::Vec<DD> MulAddRoundedToOdd(DD dd, hn::Vec<DD> a, hn::Vec<DD> b,
                                          hn::Vec<DD> c) {
  const hn::RebindToSigned<DD> di;
  const auto product = hn::Mul(a, b);
  const auto sum = hn::Add(product, c);
  const auto added = hn::Sub(sum, product);
  const auto error =
      hn::Add(hn::Sub(product, hn::Sub(sum, added)), hn::Sub(c, added));
  // Neither where the sum is exact nor where it is infinite or NaN.
  const auto is_inexact =
      hn::Or(hn::Lt(error, hn::Zero(dd)), hn::Gt(error, hn::Zero(dd)));
  const auto bits = hn::BitCast(di, sum);
  const auto is_odd = hn::And(bits, hn::Set(di, 1));
  // 1 if the exact sum is further from 0, else -1, and 0 for odd ones.
  const auto sign = hn::BroadcastSignBit(hn::Xor(bits, hn::BitCast(di, error)));
  const auto step = hn::AndNot(hn::Neg(is_odd), hn::Or(sign, hn::Set(di, 1)));
  return hn::BitCast(
      dd,
      hn::Add(bits, hn::IfThenElseZero(hn::RebindMask(di, is_inexact), step)));
}

template <class DF>
HWY_INLINE hn::Vec<DF> FusedMulAdd(DF df, hn::Vec<DF> a, hn::Vec<DF> b,
                                   hn::Vec<DF> c) {
  const hn::Half<DF> half;
  const hn::Rebind<double, decltype(half)> dd;
  const auto low =
      MulAddRoundedToOdd(dd, hn::PromoteTo(dd, hn::LowerHalf(half, a)),
                         hn::PromoteTo(dd, hn::LowerHalf(half, b)),
                         hn::PromoteTo(dd, hn::LowerHalf(half, c)));
  const auto high =
      MulAddRoundedToOdd(dd, hn::PromoteTo(dd, hn::UpperHalf(half, a)),
                         hn::PromoteTo(dd, hn::UpperHalf(half, b)),
                         hn::PromoteTo(dd, hn::UpperHalf(half, c)));
  return hn::Combine(df, hn::DemoteTo(half, high), hn::DemoteTo(half, low));
}

#else

template <class DF>
HWY_INLINE hn::Vec<DF> FusedMulAdd(DF /*df*/, hn::Vec<DF> a, hn::Vec<DF> b,
                                   hn::Vec<DF> c) {
  return hn::MulAdd(a, b, c);
}

#endif

// c[0] + c[1] x + ... by Horner's rule.
template <class DF, size_t kCount>
HWY_INLINE hn::Vec<DF> Polynomial(DF df, hn::Vec<DF> x,
                                  const float (&c)[kCount]) {
  auto sum = hn::Set(df, c[kCount - 1]);
  for (size_t i = 1; i < kCount; ++i) {
    sum = hn::Add(hn::Mul(sum, x), hn::Set(df, c[kCount - 1 - i]));
  }
  return sum;
}

// x = n ln 2 + r with |r| <= ln 2 / 2, for |x| below 2^13. `shifted` is
// 1.5 * 2^23 + n, whose low bits are the integer n. ln 2 is in two parts, of
// which n times the first is exact.
template <class DF>
struct ReducedExponent {
  HWY_INLINE ReducedExponent(DF df, hn::Vec<DF> x) {
    const auto base = hn::Set(df, 12582912.0f);
    shifted = hn::Add(hn::Mul(x, hn::Set(df, 1.44269504f)), base);
    const auto n = hn::Sub(shifted, base);
    r = hn::Sub(x, hn::Mul(n, hn::Set(df, 0.693359375f)));
    r = hn::Sub(r, hn::Mul(n, hn::Set(df, -2.12194440e-4f)));
  }

  hn::Vec<DF> shifted;
  hn::Vec<DF> r;
};

// e^r = 1 + r + r^2 q(r), where q makes the largest relative error for
// |r| <= ln 2 / 2 least, 3.1e-9 (found with Remez's algorithm). NaN stays.
template <class DF>
HWY_INLINE hn::Vec<DF> ExpOfReduced(DF df, hn::Vec<DF> r) {
  constexpr float kQ[] = {0.499999934319f, 0.166665203986f, 0.0416683908224f,
                          0.00836874514868f, 0.00138145384521f};
  const auto tail = hn::Mul(hn::Mul(r, r), Polynomial(df, r, kQ));
  return hn::Add(hn::Set(df, 1.0f), hn::Add(r, tail));
}

// 2^n, where n in [-126, 127] are the low bits.
template <class DF>
HWY_INLINE hn::Vec<DF> PowerOfTwo(DF df, hn::Vec<hn::RebindToSigned<DF>> n) {
  const hn::RebindToSigned<DF> di;
  return hn::BitCast(df, hn::ShiftLeft<23>(hn::Add(n, hn::Set(di, 127))));
}

// e^(x + low) over the whole range: infinity above 88.73, subnormal below
// -87.3, 0 below -104. `low` is small beside x.
template <class DF>
HWY_INLINE hn::Vec<DF> ExpOfSum(DF df, hn::Vec<DF> x, hn::Vec<DF> low) {
  const hn::RebindToSigned<DF> di;
  const auto least = hn::Set(df, -104.0f), most = hn::Set(df, 89.0f);
  x = hn::IfThenElse(hn::Lt(x, least), least, x);
  x = hn::IfThenElse(hn::Gt(x, most), most, x);
  const ReducedExponent<DF> reduced(df, x);
  const auto fraction = ExpOfReduced(df, hn::Add(reduced.r, low));
  // 2^129 and 2^-150 are no floats: two factors. Only the second rounds.
  const auto n = hn::Sub(hn::BitCast(di, reduced.shifted),
                         hn::Set(di, 0x4B400000));  // bits of 1.5 * 2^23
  const auto half = hn::ShiftRight<1>(n);
  return hn::Mul(hn::Mul(fraction, PowerOfTwo(df, half)),
                 PowerOfTwo(df, hn::Sub(n, half)));
}

template <class DF>
HWY_INLINE hn::Vec<DF> Exp(DF df, hn::Vec<DF> x) {
  return ExpOfSum(df, x, hn::Zero(df));
}

// 2^x for x <= 0, but 0 below -126, the last exponent of normal numbers: the
// weights of a softmax. The relative error is below 1.7 * 2^-23, of which 0.8
// is the polynomial's (found with Remez's algorithm); 2^0 is 1.
template <class DF>
HWY_INLINE hn::Vec<DF> PowerOfTwoNotPositive(DF df, hn::Vec<DF> x) {
  constexpr float kQ[] = {0.693146977478f, 0.240222419232f, 0.0555073387201f,
                          0.00967152327048f, 0.00132647135753f};
  const hn::RebindToSigned<DF> di;
  // Whole numbers of this size have those of n + 127 in their low bits.
  const auto base = hn::Set(df, 12582912.0f + 127.0f);
  const auto shifted = hn::Add(x, base);
  const auto r = hn::Sub(x, hn::Sub(shifted, base));
  const auto fraction =
      hn::Add(hn::Set(df, 1.0f), hn::Mul(r, Polynomial(df, r, kQ)));
  const auto power =
      hn::BitCast(df, hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  const auto result = hn::Mul(fraction, power);
  return hn::IfThenElse(hn::Lt(x, hn::Set(df, -126.0f)), hn::Zero(df), result);
}

// x / (1 + e^-u). With e^-|u| neither end overflows.
template <class DF>
HWY_INLINE hn::Vec<DF> TimesSigmoid(DF df, hn::Vec<DF> x, hn::Vec<DF> u) {
  const auto e = Exp(df, hn::Neg(hn::Abs(u)));
  const auto numerator =
      hn::IfThenElse(hn::Lt(u, hn::Zero(df)), hn::Mul(x, e), x);
  return hn::Div(numerator, hn::Add(hn::Set(df, 1.0f), e));
}

// x times the normal distribution function of x.
//
// With a = |x| that function is Q at -a and 1 - Q at a, where
// Q = e^(-a^2/2) M(a) and M = erfcx(a/sqrt(2))/2 is smooth: s times a
// polynomial of s = 1 / (1 + 0.3 a) with a relative error below 3.5e-9 up to a
// = 15 (found with Remez's algorithm), where Q has vanished. a^2 is split,
// because what is lost of it is lost, times a^2/2, of Q.
template <class DF>
HWY_INLINE hn::Vec<DF> TimesNormalCdf(DF df, hn::Vec<DF> x) {
  constexpr float kM[] = {0.11968671656f,   0.119571319864f,  0.110239326365f,
                          0.0783723217937f, 0.0962046304586f, -0.0795086137127f,
                          0.191882629841f,  -0.22828429433f,  0.112464584483f,
                          -0.0206286230561f};
  const hn::RebindToUnsigned<DF> du;
  const auto one = hn::Set(df, 1.0f);
  // Beyond 16 all is 0 or 1, and squares stay finite.
  auto a = hn::Abs(x);
  a = hn::IfThenElse(hn::Gt(a, hn::Set(df, 16.0f)), hn::Set(df, 16.0f), a);
  // 12 bits: the square is exact.
  const auto high =
      hn::BitCast(df, hn::And(hn::BitCast(du, a), hn::Set(du, 0xFFFFF000u)));
  const auto half = hn::Set(df, -0.5f);
  const auto square = hn::Mul(hn::Mul(high, high), half);
  const auto rest = hn::Mul(hn::Mul(hn::Sub(a, high), hn::Add(a, high)), half);
  const auto s = hn::Div(one, hn::Add(one, hn::Mul(a, hn::Set(df, 0.3f))));
  const auto m = hn::Mul(s, Polynomial(df, s, kM));
  const auto q = hn::Mul(ExpOfSum(df, square, rest), m);
  const auto cdf = hn::IfThenElse(hn::Lt(x, hn::Zero(df)), q, hn::Sub(one, q));
  return hn::Mul(x, cdf);
}

// The first `count` lanes from `from`, then zeros.
template <class DF>
HWY_INLINE hn::Vec<DF> LoadSome(DF df, const float* from, size_t count) {
  HWY_ALIGN float lanes[hn::MaxLanes(DF())] = {};
  std::memcpy(lanes, from, count * sizeof(float));
  return hn::Load(df, lanes);
}

template <class DF>
HWY_INLINE void StoreSome(DF df, hn::Vec<DF> value, size_t count, float* to) {
  HWY_ALIGN float lanes[hn::MaxLanes(DF())];
  hn::Store(value, df, lanes);
  std::memcpy(to, lanes, count * sizeof(float));
}

// out[i] = function(in[i]...) for i < count. `out` may be one of `in`.
template <class Function, class... In>
HWY_INLINE void MapRow(size_t count, float* out, const Function& function,
                       const In*... in) {
  const hn::CappedTag<float, 16> df;
  constexpr size_t kN = hn::MaxLanes(hn::CappedTag<float, 16>());
  size_t i = 0;
  for (; i + kN <= count; i += kN) {
    hn::StoreU(function(hn::LoadU(df, in + i)...), df, out + i);
  }
  if (i < count) {
    const size_t rest = count - i;
    StoreSome(df, function(LoadSome(df, in + i, rest)...), rest, out + i);
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_ELEMENTWISE_FLOAT_MATH_INL_H_
