// SPDX-License-Identifier: Apache-2.0
//
// Per-target: sum + odd product + even product of the pairs of bf16 in each
// 32-bit lane, in this order, each addition rounded to float32. Two ways, which
// differ only where something underflows or overflows.

#if defined(QEFF_KERNELS_MATMUL_BF16_BF16_DOT_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_MATMUL_BF16_BF16_DOT_INL_H_
#undef QEFF_KERNELS_MATMUL_BF16_BF16_DOT_INL_H_
#else
#define QEFF_KERNELS_MATMUL_BF16_BF16_DOT_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_bf16 {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Lanes of 32 bits, each with the pair of one row.
using F32 = hn::CappedTag<float, 16>;
using U32 = hn::RebindToUnsigned<F32>;
using VF = hn::Vec<F32>;
using VU = hn::Vec<U32>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(F32()));

// Each way has Operand, a vector of pairs prepared for Dot, which adds their
// products to `sum`.
struct WidenedDot {
  struct Operand {
    explicit HWY_INLINE Operand(VU pairs)
        : even(hn::BitCast(F32(), hn::ShiftLeft<16>(pairs))),
          odd(hn::BitCast(F32(), hn::And(pairs, hn::Set(U32(), 0xFFFF0000u)))) {
    }
    VF even, odd;
  };

  // A product of two significands of 8 bits is exact in float32, so that it is
  // the same whether or not MulAdd is fused.
  static HWY_INLINE VF Dot(VF sum, const Operand& w, const Operand& x) {
    return hn::MulAdd(w.even, x.even, hn::MulAdd(w.odd, x.odd, sum));
  }
};

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL

// For CPUs with AVX512_BF16, which neither target implies.
struct InstructionDot {
  struct Operand {
    explicit HWY_INLINE Operand(VU from) : pairs(from) {}
    VU pairs;
  };

  // Not the intrinsic: the compiler must not use the extension elsewhere in
  // this target, and g++ 12 copies and spills sums that intrinsics update.
  static HWY_INLINE VF Dot(VF sum, const Operand& w, const Operand& x) {
    asm("vdpbf16ps %2, %1, %0"
        : "+v"(sum.raw)
        : "v"(w.pairs.raw), "v"(x.pairs.raw));
    return sum;
  }
};

#else

using InstructionDot = WidenedDot;

#endif

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_bf16
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_MATMUL_BF16_BF16_DOT_INL_H_
