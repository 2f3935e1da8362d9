// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/quantize_activations.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/matmul_int/quantize_activations.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_quantize_activations {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A step has eight columns.
using F32 = hn::CappedTag<float, kUnitElems>;
using I32 = hn::RebindToSigned<F32>;
constexpr int kN = static_cast<int>(hn::MaxLanes(F32()));
constexpr int kVectors = static_cast<int>(kUnitElems) / kN;

// The largest of |x|, NaN and infinity included, as bits: those of magnitudes
// are ordered like the numbers, with NaN last.
HWY_INLINE int32_t AbsMaxBits(const float* x, int64_t cols) {
  const I32 di;
  const auto magnitude = hn::Set(di, 0x7FFFFFFF);
  auto max0 = hn::Zero(di), max1 = hn::Zero(di);
  int64_t c = 0;
  for (; c + 2 * kN <= cols; c += 2 * kN) {
    const auto x0 = hn::BitCast(di, hn::LoadU(F32(), x + c));
    const auto x1 = hn::BitCast(di, hn::LoadU(F32(), x + c + kN));
    max0 = hn::Max(max0, hn::And(x0, magnitude));
    max1 = hn::Max(max1, hn::And(x1, magnitude));
  }
  HWY_ALIGN int32_t lanes[kN];
  hn::Store(hn::Max(max0, max1), di, lanes);
  int32_t result = *std::max_element(lanes, lanes + kN);
  for (; c < cols; ++c) {
    int32_t bits;
    std::memcpy(&bits, x + c, sizeof(bits));
    result = std::max(result, bits & 0x7FFFFFFF);
  }
  return result;
}

// Quantizes one step to two words of codes, the second `word_bytes` after the
// first, and adds the codes to `sums`. kSaturate: |x * inverse| may exceed 127.
template <bool kSaturate>
HWY_INLINE void QuantizeStep(const float* x, hn::Vec<F32> inverse,
                             int64_t word_bytes, uint8_t* to,
                             hn::Vec<I32>& sums) {
  const I32 di;
  const hn::Rebind<int16_t, F32> d16;
  const hn::Rebind<int8_t, F32> d8;
  // In [2^23, 2^24) floats are whole numbers: the sum rounds to nearest even,
  // and differs from the base in the code.
  const auto base = hn::Set(F32(), 12582912.0f);
  HWY_ALIGN int8_t codes[kUnitElems];
  HWY_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) {
    auto scaled = hn::Mul(hn::LoadU(F32(), x + v * kN), inverse);
    if constexpr (kSaturate) {
      scaled = hn::Max(scaled, hn::Set(F32(), -127.0f));
      scaled = hn::Min(scaled, hn::Set(F32(), 127.0f));
    }
    const auto code =
        hn::Sub(hn::BitCast(di, hn::Add(scaled, base)), hn::BitCast(di, base));
    sums = hn::Add(sums, code);
    hn::StoreU(hn::DemoteTo(d8, hn::DemoteTo(d16, code)), d8, codes + v * kN);
  }
  std::memcpy(to, codes, 4);
  std::memcpy(to + word_bytes, codes + 4, 4);
}

HWY_INLINE int32_t SumLanes(hn::Vec<I32> sums) {
  HWY_ALIGN int32_t lanes[kN];
  hn::Store(sums, I32(), lanes);
  int32_t sum = 0;
  for (int l = 0; l < kN; ++l) sum += lanes[l];
  return sum;
}

// Token `t` of a tile of `tokens`; `codes` and `sums` are those of the tile.
template <bool kSaturate>
HWY_INLINE void QuantizeToken(const ActivationLayout& layout, const float* x,
                              int64_t t, int64_t tokens, float inverse,
                              uint8_t* codes, int32_t* sums) {
  const auto vinverse = hn::Set(F32(), inverse);
  const int64_t word_bytes = tokens * 4;
  uint8_t* to = codes + t * 4;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const int64_t begin = g * layout.group_elems();
    const int64_t end = std::min(begin + layout.group_elems(), layout.cols());
    auto vsum = hn::Zero(I32());
    int64_t c = begin;
    for (; c + kUnitElems <= end; c += kUnitElems, to += 2 * word_bytes) {
      QuantizeStep<kSaturate>(x + c, vinverse, word_bytes, to, vsum);
    }
    if (c < end) {
      HWY_ALIGN float last[kUnitElems] = {};
      std::memcpy(last, x + c, static_cast<size_t>(end - c) * sizeof(float));
      QuantizeStep<kSaturate>(last, vinverse, word_bytes, to, vsum);
    }
    sums[g * tokens + t] = -8 * SumLanes(vsum);
  }
}

// A token that is all zero, or has no codes.
void ClearToken(const ActivationLayout& layout, int64_t t, int64_t tokens,
                uint8_t* codes, int32_t* sums) {
  for (int64_t w = 0; w < layout.padded_cols() / 4; ++w) {
    std::memset(codes + (w * tokens + t) * 4, 0, 4);
  }
  for (int64_t g = 0; g < layout.groups(); ++g) sums[g * tokens + t] = 0;
}

// `fixed_scale` 0: each token has its own.
void QuantizeTile(const ActivationLayout& layout, float fixed_scale,
                  const float* x, int64_t stride_elems, int64_t tile,
                  uint8_t* packed) {
  const int64_t first = layout.TileBegin(tile);
  const int64_t tokens = layout.TileTokens(tile);
  uint8_t* codes = packed + layout.CodesOffset(tile);
  int32_t* sums = reinterpret_cast<int32_t*>(packed + layout.SumsOffset(tile));
  float* scales = reinterpret_cast<float*>(packed + layout.ScalesOffset());
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = x + (first + t) * stride_elems;
    const int32_t bits = AbsMaxBits(row, layout.cols());
    float absmax;
    std::memcpy(&absmax, &bits, sizeof(absmax));
    const bool finite = absmax <= std::numeric_limits<float>::max();
    if (finite && fixed_scale != 0) {
      QuantizeToken<true>(layout, row, t, tokens, 1.0f / fixed_scale, codes,
                          sums);
      scales[first + t] = fixed_scale;
      continue;
    }
    if (finite && absmax >= kSmallestActivation) {
      QuantizeToken<false>(layout, row, t, tokens, 127.0f / absmax, codes,
                           sums);
      scales[first + t] = absmax / 127.0f;
      continue;
    }
    ClearToken(layout, t, tokens, codes, sums);
    scales[first + t] = absmax < kSmallestActivation
                            ? 0.0f
                            : std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_quantize_activations
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_quantize_activations {
HWY_EXPORT(QuantizeTile);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Quantize(const ActivationLayout& layout, float fixed_scale,
              absl::Span<const float> x, int64_t stride_elems,
              absl::Span<uint8_t> packed, ThreadPool& pool) {
  QEFF_CHECK(stride_elems >= layout.cols() &&
             static_cast<int64_t>(x.size()) >=
                 (layout.tokens() - 1) * stride_elems + layout.cols());
  QEFF_CHECK(static_cast<int64_t>(packed.size()) == layout.total_bytes() &&
             reinterpret_cast<uintptr_t>(packed.data()) % 64 == 0);
  pool.ParallelFor(
      layout.tiles(), 1, [&](int64_t begin, int64_t end, int /*thread*/) {
        for (int64_t tile = begin; tile < end; ++tile) {
          HWY_DYNAMIC_DISPATCH(QuantizeTile)
          (layout, fixed_scale, x.data(), stride_elems, tile, packed.data());
        }
      });
}
}  // namespace internal_quantize_activations

void QuantizeActivations(const ActivationLayout& layout,
                         absl::Span<const float> x, int64_t stride_elems,
                         absl::Span<uint8_t> packed, ThreadPool& pool) {
  internal_quantize_activations::Quantize(layout, /*fixed_scale=*/0, x,
                                          stride_elems, packed, pool);
}

void QuantizeActivationsFixed(const ActivationLayout& layout, float scale,
                              absl::Span<const float> x, int64_t stride_elems,
                              absl::Span<uint8_t> packed, ThreadPool& pool) {
  QEFF_CHECK(IsActivationScale(scale));
  internal_quantize_activations::Quantize(layout, scale, x, stride_elems,
                                          packed, pool);
}

}  // namespace qeff
#endif  // HWY_ONCE
