// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/matmul_bf16_peak.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/matmul_bf16/matmul_bf16_peak.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cstdint>

#include "qeff/kernels/matmul_bf16/bf16_dot-inl.h"
#include "qeff/kernels/matmul_bf16/matmul_bf16.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_bf16 {
namespace HWY_NAMESPACE {

constexpr int kSums = 12;

// Returned so that the work is not removed.
template <class Way>
float DotProductsOf(int64_t steps) {
  VF sums[kSums];
  HWY_UNROLL(12)
  for (int i = 0; i < kSums; ++i) {
    // All different, or the compiler makes them once.
    sums[i] = hn::Set(F32(), static_cast<float>(i));
  }
  // 1 and -1: sums stay small.
  const typename Way::Operand w(hn::Set(U32(), 0xBF803F80u));
  const typename Way::Operand x(hn::Set(U32(), 0x3F803F80u));
  for (int64_t s = 0; s < steps; ++s) {
    HWY_UNROLL(12)
    for (int i = 0; i < kSums; ++i) sums[i] = Way::Dot(sums[i], w, x);
  }
  VF total = sums[0];
  HWY_UNROLL(12)
  for (int i = 1; i < kSums; ++i) total = hn::Add(total, sums[i]);
  return hn::GetLane(total);
}

float DotProducts(int64_t steps, bool use_instruction) {
  return use_instruction ? DotProductsOf<InstructionDot>(steps)
                         : DotProductsOf<WidenedDot>(steps);
}

int64_t OperationsOfStep() { return kSums * kLanes * 2 * 2; }

}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_bf16
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_matmul_bf16 {
HWY_EXPORT(DotProducts);
HWY_EXPORT(OperationsOfStep);

// HWY_DYNAMIC_DISPATCH names a function of this namespace.
void RunDotProducts(int64_t steps) {
  volatile float sink =
      HWY_DYNAMIC_DISPATCH(DotProducts)(steps, CpuHasBF16Dot());
  (void)sink;
}
int64_t Operations() { return HWY_DYNAMIC_DISPATCH(OperationsOfStep)(); }
}  // namespace internal_matmul_bf16

void RunBF16DotProducts(int64_t steps) {
  internal_matmul_bf16::RunDotProducts(steps);
}

int64_t OperationsOfBF16DotProducts() {
  return internal_matmul_bf16::Operations();
}

}  // namespace qeff
#endif  // HWY_ONCE
