// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/elementwise/activate.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/elementwise/activate.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cstddef>

#include "qeff/kernels/elementwise/float_math-inl.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_activate {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using V = hn::Vec<F32>;
using ::qeff::HWY_NAMESPACE::MapRow;
using ::qeff::HWY_NAMESPACE::TimesNormalCdf;
using ::qeff::HWY_NAMESPACE::TimesSigmoid;

struct Silu {
  HWY_INLINE V operator()(V x) const { return TimesSigmoid(F32(), x, x); }
};

struct Gelu {
  HWY_INLINE V operator()(V x) const { return TimesNormalCdf(F32(), x); }
};

// x/2 (1 + tanh(w/2)) = x sigmoid(w).
// Source: Hendrycks and Gimpel 2016 ("Gaussian Error Linear Units").
struct GeluTanh {
  HWY_INLINE V operator()(V x) const {
    const F32 df;
    const V cubic = hn::Add(hn::Mul(hn::Mul(x, x), hn::Set(df, 0.07135481628f)),
                            hn::Set(df, 1.595769122f));
    return TimesSigmoid(df, x, hn::Mul(x, cubic));
  }
};

struct Relu {
  HWY_INLINE V operator()(V x) const {
    const V zero = hn::Zero(F32());
    return hn::IfThenElse(hn::Lt(x, zero), zero, x);
  }
};

template <class Function>
void Apply(const float* gate, float* x, size_t count) {
  const Function function;
  const float* from = x;
  if (gate == nullptr) return MapRow(count, x, function, from);
  MapRow(
      count, x, [&](V g, V up) { return hn::Mul(function(g), up); }, gate,
      from);
}

// x = f(x), or f(gate) * x when there is a gate.
void ActivateRow(Activation activation, const float* gate, float* x,
                 size_t count) {
  switch (activation) {
    case Activation::kSilu:
      return Apply<Silu>(gate, x, count);
    case Activation::kGelu:
      return Apply<Gelu>(gate, x, count);
    case Activation::kGeluTanh:
      return Apply<GeluTanh>(gate, x, count);
    case Activation::kRelu:
      return Apply<Relu>(gate, x, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_activate
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_activate {
HWY_EXPORT(ActivateRow);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Activate(Activation activation, const float* gate, absl::Span<float> x) {
  HWY_DYNAMIC_DISPATCH(ActivateRow)(activation, gate, x.data(), x.size());
}
}  // namespace internal_activate

void ActivateInPlace(Activation activation, absl::Span<float> x) {
  internal_activate::Activate(activation, nullptr, x);
}

void ActivateGate(Activation activation, absl::Span<const float> gate,
                  absl::Span<float> up) {
  QEFF_CHECK(gate.size() == up.size());
  if (up.empty()) return;
  internal_activate::Activate(activation, gate.data(), up);
}

}  // namespace qeff
#endif  // HWY_ONCE
