// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/matmul_int_float.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/matmul_int/matmul_int_float.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "qeff/kernels/matmul_int/expand_part-inl.h"
#include "qeff/kernels/matmul_int/multiply_part-inl.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/check.h"

#ifndef QEFF_KERNELS_MATMUL_INT_MATMUL_INT_FLOAT_ONCE_
#define QEFF_KERNELS_MATMUL_INT_MATMUL_INT_FLOAT_ONCE_
namespace qeff {
namespace internal_matmul_int {

// A call of MatMulIntFloat.
struct FloatProduct {
  const PackedIntWeights* weights;
  const FloatActivations* activations;
  float* y;
  int64_t stride_elems;
  uint8_t* scratch;  // a panel for each thread, if weights are sparse
};

// Four codes are a word of a row; their columns have partial sums of their own.
constexpr int kWordElems = 4;

}  // namespace internal_matmul_int
}  // namespace qeff
#endif  // QEFF_KERNELS_MATMUL_INT_MATMUL_INT_FLOAT_ONCE_

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_int {
namespace HWY_NAMESPACE {

// Tokens whose partial sums of one vector of rows fit the registers.
constexpr int kFloatTokens = kLanes == 16 ? 4 : 2;

// Codes of word `i` of the step at `w`, one in each byte.
template <int kBits>
HWY_INLINE VU LoadCodes(const uint8_t* w, int64_t i) {
  const auto bits = [](VU words, int64_t shift, uint32_t mask) {
    return hn::And(hn::ShiftRightSame(words, static_cast<int>(shift)),
                   hn::Set(U32(), mask));
  };
  if (kBits == 8) return LoadWords(w + i * kWordRowBytes);
  if (kBits == 4) return bits(LoadWords(w), 4 * i, 0x0F0F0F0Fu);
  if (kBits == 2) return bits(LoadWords(w), 2 * i, 0x03030303u);
  const VU low =
      bits(LoadWords(w + i / 4 * kWordRowBytes), i % 4 * 2, 0x03030303u);
  const VU top = bits(LoadWords(w + 2 * kWordRowBytes), i, 0x01010101u);
  return hn::Or(low, hn::ShiftLeft<2>(top));
}

template <int kByte>
HWY_INLINE VF WeightOf(VU codes, VF zero) {
  const auto code =
      hn::And(hn::ShiftRight<8 * kByte>(codes), hn::Set(U32(), 0xFFu));
  return hn::Sub(hn::ConvertTo(F32(), hn::BitCast(I32(), code)), zero);
}

// dots[t] = sum of (code - zero) * x over the `cols` columns of a group, whose
// steps for some rows are at `w`.
template <int kBits, int kTokens>
HWY_INLINE void DotGroup(const uint8_t* w, VF zero, int64_t cols,
                         const float* x, int64_t x_stride_elems,
                         VF (&dots)[kTokens]) {
  constexpr int64_t kStepWords = 2 * kStepUnits<kBits>;
  constexpr int64_t kStepBytes = kPanelRows * kBits * kStepUnits<kBits>;
  VF sums[kTokens][kWordElems];
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) {
    sums[t][0] = sums[t][1] = sums[t][2] = sums[t][3] = hn::Zero(F32());
  }
  for (int64_t c = 0; c < cols; c += kWordElems) {
    const int64_t word = c / kWordElems;
    const VU codes =
        LoadCodes<kBits>(w + word / kStepWords * kStepBytes, word % kStepWords);
    const VF weights[kWordElems] = {
        WeightOf<0>(codes, zero), WeightOf<1>(codes, zero),
        WeightOf<2>(codes, zero), WeightOf<3>(codes, zero)};
    HWY_UNROLL(4)
    for (int t = 0; t < kTokens; ++t) {
      // Zeros add 0 to partial sums, which are never -0: no bit changes.
      float last[kWordElems] = {};
      const float* from = x + t * x_stride_elems + c;
      if (cols - c < kWordElems) {
        std::memcpy(last, from, static_cast<size_t>(cols - c) * sizeof(float));
        from = last;
      }
      HWY_UNROLL(4)
      for (int i = 0; i < kWordElems; ++i) {
        sums[t][i] =
            hn::Add(sums[t][i], hn::Mul(weights[i], hn::Set(F32(), from[i])));
      }
    }
  }
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) {
    dots[t] = hn::Add(hn::Add(sums[t][0], sums[t][2]),
                      hn::Add(sums[t][1], sums[t][3]));
  }
}

// A vector of rows from row `row` of panel `panel`, whose bytes are at `begin`,
// on times tokens [token, token + kTokens).
template <int kBits, int kTokens>
HWY_NOINLINE void MultiplyRowsFloat(const FloatProduct& product, int64_t panel,
                                    const uint8_t* begin, int64_t row,
                                    int64_t token) {
  const PackedIntLayout& layout = product.weights->layout;
  const FloatActivations& activations = *product.activations;
  const int64_t scale_bytes = layout.scales_bytes() / kPanelRows;
  const uint8_t* zeros =
      begin + layout.panel_bytes() - layout.zeros_bytes() + row;
  const uint8_t* w = begin;
  VF totals[kTokens];
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) totals[t] = hn::Zero(F32());
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const VF zero =
        layout.asymmetric()
            ? hn::ConvertTo(F32(), LoadZeros(zeros + g * kPanelRows))
            : hn::Set(F32(), static_cast<float>(1 << (kBits - 1)));
    const float* x = activations.x.data() + token * activations.stride_elems +
                     g * layout.group_elems();
    VF dots[kTokens];
    DotGroup<kBits, kTokens>(w + 4 * row, zero, layout.GroupCols(g), x,
                             activations.stride_elems, dots);
    w += layout.GroupSteps(g) * layout.step_bytes();
    const VF scale = LoadScales(layout.scale_dtype(), w + row * scale_bytes);
    w += layout.scales_bytes();
    HWY_UNROLL(4)
    for (int t = 0; t < kTokens; ++t) {
      totals[t] = hn::Add(totals[t], hn::Mul(dots[t], scale));
    }
  }
  const int64_t first = panel * kPanelRows + row;
  const int64_t rows = std::min<int64_t>(kLanes, layout.rows() - first);
  for (int t = 0; t < kTokens; ++t) {
    HWY_ALIGN float all[kLanes];
    hn::Store(totals[t], F32(), all);
    std::memcpy(product.y + (token + t) * product.stride_elems + first, all,
                static_cast<size_t>(rows) * sizeof(float));
  }
}

// The bytes of a panel; those of a sparse one in the scratch of the thread.
template <int kBits>
const uint8_t* PanelBytes(const FloatProduct& product, int64_t panel,
                          int thread) {
  const PackedIntLayout& layout = product.weights->layout;
  const uint8_t* bytes = product.weights->bytes.data();
  const int64_t panel_bytes = layout.panel_bytes();
  if (kBits < 4 || !layout.sparse()) return bytes + panel * panel_bytes;
  uint8_t* expanded = product.scratch + thread * panel_bytes;
  SparseCursor cursor(layout, bytes, panel);
  if (layout.asymmetric()) {
    const int64_t zeros_bytes = layout.zeros_bytes();
    std::memcpy(expanded + panel_bytes - zeros_bytes, cursor.zeros,
                static_cast<size_t>(zeros_bytes));
  }
  ExpandPart<kBits == 8 ? 8 : 4>({0, layout.groups(), 0, layout.GroupSteps(0)},
                                 nullptr, cursor, expanded);
  return expanded;
}

template <int kBits>
void MultiplyPanelFloat(const FloatProduct& product, int64_t panel,
                        int thread) {
  const uint8_t* begin = PanelBytes<kBits>(product, panel, thread);
  const int64_t tokens = product.activations->tokens;
  const int64_t rows =
      std::min(kPanelRows, product.weights->layout.rows() - panel * kPanelRows);
  for (int64_t row = 0; row < rows; row += kLanes) {
    int64_t t = 0;
    for (; t + kFloatTokens <= tokens; t += kFloatTokens) {
      MultiplyRowsFloat<kBits, kFloatTokens>(product, panel, begin, row, t);
    }
    for (; t < tokens; ++t) {
      MultiplyRowsFloat<kBits, 1>(product, panel, begin, row, t);
    }
  }
}

void MultiplyPanelFloatAny(const FloatProduct& product, int64_t panel,
                           int thread) {
  switch (product.weights->layout.bits()) {
    case 2:
      return MultiplyPanelFloat<2>(product, panel, thread);
    case 3:
      return MultiplyPanelFloat<3>(product, panel, thread);
    case 4:
      return MultiplyPanelFloat<4>(product, panel, thread);
    default:
      return MultiplyPanelFloat<8>(product, panel, thread);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_int
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_matmul_int {
HWY_EXPORT(MultiplyPanelFloatAny);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void MultiplyFloat(const FloatProduct& product, int64_t panel, int thread) {
  HWY_DYNAMIC_DISPATCH(MultiplyPanelFloatAny)(product, panel, thread);
}
}  // namespace internal_matmul_int

void MatMulIntFloat(const PackedIntWeights& weights,
                    const FloatActivations& activations, absl::Span<float> y,
                    int64_t stride_elems, ThreadPool& pool,
                    absl::Span<uint8_t> scratch) {
  const PackedIntLayout& layout = weights.layout;
  const int64_t before_last = activations.tokens - 1;
  QEFF_CHECK(static_cast<int64_t>(weights.bytes.size()) ==
                 layout.total_bytes() &&
             reinterpret_cast<uintptr_t>(weights.bytes.data()) % 64 == 0);
  QEFF_CHECK(activations.tokens >= 1 &&
             activations.stride_elems >= layout.cols() &&
             static_cast<int64_t>(activations.x.size()) >=
                 before_last * activations.stride_elems + layout.cols());
  QEFF_CHECK(stride_elems >= layout.rows() &&
             static_cast<int64_t>(y.size()) >=
                 before_last * stride_elems + layout.rows());
  QEFF_CHECK(!layout.sparse() || static_cast<int64_t>(scratch.size()) >=
                                     pool.num_threads() * layout.panel_bytes());
  const internal_matmul_int::FloatProduct product{
      &weights, &activations, y.data(), stride_elems, scratch.data()};
  pool.ParallelFor(
      layout.panels(), BalancedGrain(layout.panels(), pool.num_threads(), 1),
      [&](int64_t begin, int64_t end, int thread) {
        for (int64_t panel = begin; panel < end; ++panel) {
          internal_matmul_int::MultiplyFloat(product, panel, thread);
        }
      });
}

}  // namespace qeff
#endif  // HWY_ONCE
