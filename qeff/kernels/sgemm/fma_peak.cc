// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/sgemm/fma_peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/sgemm/fma_peak.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_fma_peak {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
constexpr int kSums = 12;

// Returned so that the work is not removed.
float MultiplyAdds(int64_t steps) {
  hn::Vec<F32> sums[kSums];
  HWY_UNROLL(12)
  for (int i = 0; i < kSums; ++i) {
    // All different, or the compiler makes them once.
    sums[i] = hn::Set(F32(), static_cast<float>(i));
  }
  // Not known to the compiler; sums tend to 1.
  const auto a = hn::Set(F32(), steps > 0 ? 0.5f : 1.0f);
  const auto b = hn::Set(F32(), steps > 0 ? 0.5f : 1.0f);
  for (int64_t s = 0; s < steps; ++s) {
    HWY_UNROLL(12)
    for (int i = 0; i < kSums; ++i) sums[i] = hn::MulAdd(sums[i], a, b);
  }
  auto total = sums[0];
  HWY_UNROLL(12)
  for (int i = 1; i < kSums; ++i) total = hn::Add(total, sums[i]);
  return hn::GetLane(total);
}

int64_t OperationsOfStep() {
  return 2 * kSums * static_cast<int64_t>(hn::MaxLanes(F32()));
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_fma_peak
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_fma_peak {
HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(OperationsOfStep);

// HWY_DYNAMIC_DISPATCH names a function of this namespace.
void Run(int64_t steps) {
  volatile float sink = HWY_DYNAMIC_DISPATCH(MultiplyAdds)(steps);
  (void)sink;
}
int64_t Operations() { return HWY_DYNAMIC_DISPATCH(OperationsOfStep)(); }
}  // namespace internal_fma_peak

void RunFusedMultiplyAdds(int64_t steps) { internal_fma_peak::Run(steps); }

int64_t OperationsOfFusedMultiplyAdds() {
  return internal_fma_peak::Operations();
}

}  // namespace qeff
#endif  // HWY_ONCE
