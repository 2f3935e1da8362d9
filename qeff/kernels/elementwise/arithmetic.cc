// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/elementwise/arithmetic.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/elementwise/arithmetic.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cstddef>

#include "qeff/kernels/elementwise/float_math-inl.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_arithmetic {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using V = hn::Vec<F32>;
using ::qeff::HWY_NAMESPACE::Exp;
using ::qeff::HWY_NAMESPACE::LoadSome;
using ::qeff::HWY_NAMESPACE::MapRow;
using ::qeff::HWY_NAMESPACE::StoreSome;

void AddRow(const float* y, float* x, size_t count) {
  const float* from = x;
  MapRow(
      count, x, [](V a, V b) { return hn::Add(a, b); }, from, y);
}

void MultiplyRow(const float* y, float* x, size_t count) {
  const float* from = x;
  MapRow(
      count, x, [](V a, V b) { return hn::Mul(a, b); }, from, y);
}

void ClampRow(float limit, float* x, size_t count) {
  const V most = hn::Set(F32(), limit), least = hn::Set(F32(), -limit);
  const auto clamp = [=](V v) {
    v = hn::IfThenElse(hn::Gt(v, most), most, v);
    return hn::IfThenElse(hn::Lt(v, least), least, v);
  };
  const float* from = x;
  MapRow(count, x, clamp, from);
}

void ExpRow(float* x, size_t count) {
  const float* from = x;
  MapRow(
      count, x, [](V v) { return Exp(F32(), v); }, from);
}

// One vector of pairs.
struct Pairs {
  HWY_INLINE Pairs(V a, V b, V cosine, V sine)
      : first(hn::Sub(hn::Mul(a, cosine), hn::Mul(b, sine))),
        second(hn::Add(hn::Mul(b, cosine), hn::Mul(a, sine))) {}
  V first, second;
};

void RotateRow(const float* cosines, const float* sines, size_t half,
               float* heads, size_t count) {
  const F32 df;
  constexpr size_t kN = hn::MaxLanes(F32());
  for (float* a = heads; a < heads + count; a += 2 * half) {
    float* b = a + half;
    size_t i = 0;
    for (; i + kN <= half; i += kN) {
      const Pairs pairs(hn::LoadU(df, a + i), hn::LoadU(df, b + i),
                        hn::LoadU(df, cosines + i), hn::LoadU(df, sines + i));
      hn::StoreU(pairs.first, df, a + i);
      hn::StoreU(pairs.second, df, b + i);
    }
    if (i == half) continue;
    const size_t rest = half - i;
    const Pairs pairs(LoadSome(df, a + i, rest), LoadSome(df, b + i, rest),
                      LoadSome(df, cosines + i, rest),
                      LoadSome(df, sines + i, rest));
    StoreSome(df, pairs.first, rest, a + i);
    StoreSome(df, pairs.second, rest, b + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_arithmetic
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_arithmetic {
// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
HWY_EXPORT(AddRow);
HWY_EXPORT(MultiplyRow);
HWY_EXPORT(ClampRow);
HWY_EXPORT(ExpRow);
HWY_EXPORT(RotateRow);

void Add(absl::Span<const float> y, absl::Span<float> x) {
  HWY_DYNAMIC_DISPATCH(AddRow)(y.data(), x.data(), x.size());
}
void Multiply(absl::Span<const float> y, absl::Span<float> x) {
  HWY_DYNAMIC_DISPATCH(MultiplyRow)(y.data(), x.data(), x.size());
}
void Clamp(float limit, absl::Span<float> x) {
  HWY_DYNAMIC_DISPATCH(ClampRow)(limit, x.data(), x.size());
}
void Exp(absl::Span<float> x) {
  HWY_DYNAMIC_DISPATCH(ExpRow)(x.data(), x.size());
}
void Rotate(absl::Span<const float> cosines, absl::Span<const float> sines,
            absl::Span<float> heads) {
  HWY_DYNAMIC_DISPATCH(RotateRow)
  (cosines.data(), sines.data(), cosines.size(), heads.data(), heads.size());
}
}  // namespace internal_arithmetic

void AddInPlace(absl::Span<const float> y, absl::Span<float> x) {
  QEFF_CHECK(x.size() == y.size());
  internal_arithmetic::Add(y, x);
}

void MultiplyInPlace(absl::Span<const float> y, absl::Span<float> x) {
  QEFF_CHECK(x.size() == y.size());
  internal_arithmetic::Multiply(y, x);
}

void ClampInPlace(float limit, absl::Span<float> x) {
  QEFF_CHECK(limit >= 0);
  internal_arithmetic::Clamp(limit, x);
}

void ExpInPlace(absl::Span<float> x) { internal_arithmetic::Exp(x); }

void RotateHeads(absl::Span<const float> cosines, absl::Span<const float> sines,
                 absl::Span<float> heads) {
  QEFF_CHECK(!cosines.empty() && cosines.size() == sines.size() &&
             heads.size() % (2 * cosines.size()) == 0);
  internal_arithmetic::Rotate(cosines, sines, heads);
}

}  // namespace qeff
#endif  // HWY_ONCE
