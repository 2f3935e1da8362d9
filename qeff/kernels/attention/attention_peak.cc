// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/attention/attention_peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/attention/attention_peak.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_attention_peak {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using V = hn::Vec<F32>;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || \
    HWY_TARGET == HWY_NEON
constexpr int kFactors = 12;
#else
constexpr int kFactors = 4;
#endif
constexpr int64_t kRows = 64;

// Returned so that the work is not removed.
float MultiplyAdds(int64_t steps) {
  HWY_ALIGN float factors[kRows * kFactors];
  for (int64_t i = 0; i < kRows * kFactors; ++i) {
    factors[i] = 1.0f / static_cast<float>(i + 1);
  }
  V sums[kFactors][2];
  HWY_UNROLL(12)
  for (int i = 0; i < kFactors; ++i) sums[i][0] = sums[i][1] = hn::Zero(F32());
  // Not of one value, which compilers would multiply only once.
  const V a = hn::LoadU(F32(), factors), b = hn::LoadU(F32(), factors + 16);
  for (int64_t s = 0; s < steps; ++s) {
    const float* row = factors + s % kRows * kFactors;
    HWY_UNROLL(12)
    for (int i = 0; i < kFactors; ++i) {
      const V factor = hn::Set(F32(), row[i]);
      sums[i][0] = hn::Add(sums[i][0], hn::Mul(factor, a));
      sums[i][1] = hn::Add(sums[i][1], hn::Mul(factor, b));
    }
  }
  V total = hn::Zero(F32());
  HWY_UNROLL(12)
  for (int i = 0; i < kFactors; ++i) {
    total = hn::Add(total, hn::Add(sums[i][0], sums[i][1]));
  }
  return hn::GetLane(hn::SumOfLanes(F32(), total));
}

int64_t OperationsOfStep() {
  return int64_t{kFactors} * 2 * 2 * static_cast<int64_t>(hn::MaxLanes(F32()));
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_attention_peak
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_attention_peak {
HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(OperationsOfStep);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Run(int64_t steps) {
  volatile float sink = HWY_DYNAMIC_DISPATCH(MultiplyAdds)(steps);
  (void)sink;
}
int64_t Operations() { return HWY_DYNAMIC_DISPATCH(OperationsOfStep)(); }
}  // namespace internal_attention_peak

void RunMultiplyAdds(int64_t steps) { internal_attention_peak::Run(steps); }

int64_t OperationsOfMultiplyAdds() {
  return internal_attention_peak::Operations();
}

}  // namespace qeff
#endif  // HWY_ONCE
