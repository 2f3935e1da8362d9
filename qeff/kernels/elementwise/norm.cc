// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/elementwise/norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/elementwise/norm.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cmath>
#include <cstddef>

#include "qeff/kernels/elementwise/float_math-inl.h"
#include "qeff/util/check.h"

#ifndef QEFF_KERNELS_ELEMENTWISE_NORM_ONCE_
#define QEFF_KERNELS_ELEMENTWISE_NORM_ONCE_
namespace qeff {
namespace internal_norm {

// A row in numbers that the loops use; `bias` may be null.
struct Row {
  double epsilon;
  const float* weight;
  const float* bias;
  const float* x;
  float* out;
  size_t size;
};

}  // namespace internal_norm
}  // namespace qeff
#endif  // QEFF_KERNELS_ELEMENTWISE_NORM_ONCE_

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_norm {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using V = hn::Vec<F32>;
using F64 = hn::CappedTag<double, 8>;
using VD = hn::Vec<F64>;
using HalfF32 = hn::Rebind<float, F64>;  // as many lanes as F64
using ::qeff::HWY_NAMESPACE::LoadSome;
using ::qeff::HWY_NAMESPACE::MapRow;
using ::qeff::HWY_NAMESPACE::StoreSome;

constexpr size_t kN = hn::MaxLanes(F64());
constexpr size_t kPartialSums = 16;
constexpr size_t kVectors = kPartialSums / kN;

HWY_INLINE double SumLanes(VD (&sums)[kVectors]) {
  HWY_ALIGN double lanes[kPartialSums];
  for (size_t v = 0; v < kVectors; ++v) {
    hn::Store(sums[v], F64(), lanes + v * kN);
  }
  for (size_t half = kPartialSums / 2; half >= 1; half /= 2) {
    for (size_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// The sum of term(x[i]) in the order that the header fixes.
template <class Term>
HWY_INLINE double SumOf(const float* x, size_t size, const Term& term) {
  VD sums[kVectors];
  for (size_t v = 0; v < kVectors; ++v) sums[v] = hn::Zero(F64());
  size_t i = 0;
  for (; i + kPartialSums <= size; i += kPartialSums) {
    HWY_UNROLL(16)
    for (size_t v = 0; v < kVectors; ++v) {
      const VD value =
          hn::PromoteTo(F64(), hn::LoadU(HalfF32(), x + i + v * kN));
      sums[v] = hn::Add(sums[v], term(value));
    }
  }
  for (size_t v = 0; i < size; ++v, i += kN) {
    const size_t count = size - i < kN ? size - i : kN;
    const VD value = hn::PromoteTo(F64(), LoadSome(HalfF32(), x + i, count));
    const VD masked = hn::IfThenElseZero(hn::FirstN(F64(), count), term(value));
    sums[v] = hn::Add(sums[v], masked);
  }
  return SumLanes(sums);
}

HWY_INLINE double SumOfSquares(const float* x, size_t size, double mean) {
  const VD vmean = hn::Set(F64(), mean);
  return SumOf(x, size, [=](VD v) {
    const VD centered = hn::Sub(v, vmean);
    return hn::Mul(centered, centered);
  });
}

HWY_INLINE float InverseRoot(double squares, size_t size, double epsilon) {
  return static_cast<float>(
      1.0 / std::sqrt(squares / static_cast<double>(size) + epsilon));
}

void RmsNormRow(const Row& row) {
  const double squares =
      SumOf(row.x, row.size, [](VD v) { return hn::Mul(v, v); });
  const V s = hn::Set(F32(), InverseRoot(squares, row.size, row.epsilon));
  const auto scale = [=](V x, V weight) {
    return hn::Mul(hn::Mul(x, s), weight);
  };
  if (row.bias == nullptr) {
    return MapRow(row.size, row.out, scale, row.x, row.weight);
  }
  MapRow(
      row.size, row.out,
      [=](V x, V weight, V bias) { return hn::Add(scale(x, weight), bias); },
      row.x, row.weight, row.bias);
}

// The float nearest to x - mean, then as RmsNorm.
HWY_INLINE hn::Vec<HalfF32> Center(hn::Vec<HalfF32> x, VD mean) {
  return hn::DemoteTo(HalfF32(), hn::Sub(hn::PromoteTo(F64(), x), mean));
}

void LayerNormRow(const Row& row) {
  const HalfF32 df;
  const double sum = SumOf(row.x, row.size, [](VD v) { return v; });
  const double mean = sum / static_cast<double>(row.size);
  const double squares = SumOfSquares(row.x, row.size, mean);
  const auto s = hn::Set(df, InverseRoot(squares, row.size, row.epsilon));
  const VD vmean = hn::Set(F64(), mean);
  for (size_t i = 0; i < row.size; i += kN) {
    const size_t count = row.size - i < kN ? row.size - i : kN;
    const auto load = [=](const float* from) {
      return count == kN ? hn::LoadU(df, from + i)
                         : LoadSome(df, from + i, count);
    };
    auto y = hn::Mul(hn::Mul(Center(load(row.x), vmean), s), load(row.weight));
    if (row.bias != nullptr) y = hn::Add(y, load(row.bias));
    if (count == kN) {
      hn::StoreU(y, df, row.out + i);
    } else {
      StoreSome(df, y, count, row.out + i);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_norm
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_norm {
HWY_EXPORT(RmsNormRow);
HWY_EXPORT(LayerNormRow);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Rms(const Row& row) { HWY_DYNAMIC_DISPATCH(RmsNormRow)(row); }
void Layer(const Row& row) { HWY_DYNAMIC_DISPATCH(LayerNormRow)(row); }

Row MakeRow(double epsilon, absl::Span<const float> weight,
            absl::Span<const float> bias, absl::Span<const float> x,
            absl::Span<float> out) {
  QEFF_CHECK(!x.empty() && x.size() == out.size() &&
             x.size() == weight.size() &&
             (bias.empty() || bias.size() == x.size()));
  return Row{epsilon,  weight.data(), bias.empty() ? nullptr : bias.data(),
             x.data(), out.data(),    x.size()};
}
}  // namespace internal_norm

void RmsNorm(double epsilon, absl::Span<const float> weight,
             absl::Span<const float> bias, absl::Span<const float> x,
             absl::Span<float> out) {
  internal_norm::Rms(internal_norm::MakeRow(epsilon, weight, bias, x, out));
}

void LayerNorm(double epsilon, absl::Span<const float> weight,
               absl::Span<const float> bias, absl::Span<const float> x,
               absl::Span<float> out) {
  internal_norm::Layer(internal_norm::MakeRow(epsilon, weight, bias, x, out));
}

void RmsNormHeads(double epsilon, absl::Span<const float> weight,
                  absl::Span<float> heads) {
  QEFF_CHECK(!weight.empty() && heads.size() % weight.size() == 0);
  for (size_t at = 0; at < heads.size(); at += weight.size()) {
    const absl::Span<float> head = heads.subspan(at, weight.size());
    RmsNorm(epsilon, weight, {}, head, head);
  }
}

}  // namespace qeff
#endif  // HWY_ONCE
