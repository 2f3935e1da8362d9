// SPDX-License-Identifier: Apache-2.0
//
// Per-target: sums of four products of 8-bit codes in each 32-bit lane, of
// unsigned weights and signed activations. Exact on every target; where weights
// are signed, those of 8 bits lose kInt8Bias first.

#if defined(QEFF_KERNELS_MATMUL_INT_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_MATMUL_INT_DOT_INL_H_
#undef QEFF_KERNELS_MATMUL_INT_DOT_INL_H_
#else
#define QEFF_KERNELS_MATMUL_INT_DOT_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

// Highway 1.0.3 leaves VNNI out of the attributes of the target that needs it.
#if HWY_TARGET == HWY_AVX3_DL
#undef HWY_TARGET_STR
#define HWY_TARGET_STR                                            \
  HWY_TARGET_STR_AVX3                                             \
  ",vpclmulqdq,avx512vbmi,avx512vbmi2,vaes,avxvnni,avx512bitalg," \
  "avx512vpopcntdq,avx512vnni"
#endif

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_int {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Lanes of 32 bits, each with the word of one row.
using I32 = hn::CappedTag<int32_t, 16>;
using U32 = hn::RebindToUnsigned<I32>;
using VI = hn::Vec<I32>;
using VU = hn::Vec<U32>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(I32()));

// Armv8.2's SDOT, which g++ and clang announce.
#if HWY_TARGET == HWY_NEON && defined(__ARM_FEATURE_DOTPROD)
#define QEFF_DOT_IS_SIGNED 1
#else
#define QEFF_DOT_IS_SIGNED 0
#endif

// What Dot takes from codes of 8 bits: SDOT has signed weights only. Smaller
// codes are the same either way.
constexpr int kInt8Bias = QEFF_DOT_IS_SIGNED ? 128 : 0;
HWY_INLINE VU WithoutInt8Bias(VU words) {
  if (kInt8Bias == 0) return words;
  return hn::Xor(words, hn::Set(U32(), 0x80808080u));
}

// `WeightWord` are words of weights and `TokenWord` one word of activations in
// all lanes, both prepared for Dot, which adds their products to `sum`.
#if HWY_TARGET == HWY_AVX3_DL

struct WeightWord {
  explicit HWY_INLINE WeightWord(VU word) : codes(word) {}
  VU codes;
};
struct TokenWord {
  explicit HWY_INLINE TokenWord(int32_t word) : codes(hn::Set(I32(), word)) {}
  // Another word in each lane.
  explicit HWY_INLINE TokenWord(VI words) : codes(words) {}
  VI codes;
};
HWY_INLINE VI Dot(VI sum, const WeightWord& w, const TokenWord& x) {
  // The intrinsic lets g++ 12 copy and spill half of 24 sums in each step.
  asm("vpdpbusd %2, %1, %0"
      : "+v"(sum.raw)
      : "v"(w.codes.raw), "v"(x.codes.raw));
  return sum;
}

#elif QEFF_DOT_IS_SIGNED

using I8 = hn::Repartition<int8_t, I32>;

struct WeightWord {
  explicit HWY_INLINE WeightWord(VU word) : codes(hn::BitCast(I8(), word)) {}
  hn::Vec<I8> codes;
};
struct TokenWord {
  explicit HWY_INLINE TokenWord(int32_t word)
      : codes(hn::BitCast(I8(), hn::Set(I32(), word))) {}
  hn::Vec<I8> codes;
};
HWY_INLINE VI Dot(VI sum, const WeightWord& w, const TokenWord& x) {
  return VI(vdotq_s32(sum.raw, w.codes.raw, x.codes.raw));
}

#elif HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128

// VPMADDUBSW would saturate; VPMADDWD of even and of odd bytes does not.
using I16 = hn::Repartition<int16_t, I32>;
using U16 = hn::Repartition<uint16_t, I32>;

struct WeightWord {
  explicit HWY_INLINE WeightWord(VU word)
      : even(hn::BitCast(I16(), hn::And(word, hn::Set(U32(), 0x00FF00FFu)))),
        odd(hn::BitCast(I16(), hn::ShiftRight<8>(hn::BitCast(U16(), word)))) {}
  hn::Vec<I16> even, odd;
};
struct TokenWord {
  explicit HWY_INLINE TokenWord(int32_t word)
      : odd(hn::BitCast(I16(), hn::Set(I32(), word))) {
    even = hn::ShiftRight<8>(hn::ShiftLeft<8>(odd));
    odd = hn::ShiftRight<8>(odd);
  }
  hn::Vec<I16> even, odd;
};
HWY_INLINE VI Dot(VI sum, const WeightWord& w, const TokenWord& x) {
  auto unused = hn::Zero(I32());
  sum = hn::ReorderWidenMulAccumulate(I32(), w.even, x.even, sum, unused);
  return hn::ReorderWidenMulAccumulate(I32(), w.odd, x.odd, sum, unused);
}

#else

struct WeightWord {
  explicit HWY_INLINE WeightWord(VU word) {
    const auto mask = hn::Set(U32(), 0xFFu);
    b0 = hn::BitCast(I32(), hn::And(word, mask));
    b1 = hn::BitCast(I32(), hn::And(hn::ShiftRight<8>(word), mask));
    b2 = hn::BitCast(I32(), hn::And(hn::ShiftRight<16>(word), mask));
    b3 = hn::BitCast(I32(), hn::ShiftRight<24>(word));
  }
  VI b0, b1, b2, b3;
};
struct TokenWord {
  explicit HWY_INLINE TokenWord(int32_t word) {
    const auto all = hn::Set(I32(), word);
    b0 = hn::ShiftRight<24>(hn::ShiftLeft<24>(all));
    b1 = hn::ShiftRight<24>(hn::ShiftLeft<16>(all));
    b2 = hn::ShiftRight<24>(hn::ShiftLeft<8>(all));
    b3 = hn::ShiftRight<24>(all);
  }
  VI b0, b1, b2, b3;
};
HWY_INLINE VI Dot(VI sum, const WeightWord& w, const TokenWord& x) {
  sum = hn::Add(sum, hn::Mul(w.b0, x.b0));
  sum = hn::Add(sum, hn::Mul(w.b1, x.b1));
  sum = hn::Add(sum, hn::Mul(w.b2, x.b2));
  return hn::Add(sum, hn::Mul(w.b3, x.b3));
}

#endif
#undef QEFF_DOT_IS_SIGNED

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_int
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_MATMUL_INT_DOT_INL_H_
