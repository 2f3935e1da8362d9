// SPDX-License-Identifier: Apache-2.0
//
// Products of a packed bf16 weight matrix with activations rounded to bf16, for
// any number of tokens: prefill, which the dot products bound, and decode,
// which reading the weights bounds. Weights are packed once with
// PackBF16Weights, activations for each input with PackBF16Activations. For
// rows as they are in a checkpoint and float32 activations use
// qeff/kernels/matvec.

#ifndef QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_H_
#define QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// Borrowed packed weights, dense or sparse, 64-byte aligned,
// layout.total_bytes() of them.
struct PackedBF16Weights {
  PackedBF16Layout layout;
  absl::Span<const uint8_t> bytes;
};

// Borrowed activations, as PackBF16Activations wrote them.
struct BF16Activations {
  BF16ActivationLayout layout;
  absl::Span<const uint8_t> bytes;
};

// How products are formed.
enum class BF16Dot {
  // VDPBF16PS, which takes subnormal operands and results for 0. Where the CPU
  // or the chosen target lacks it, the same as kWidened.
  kInstruction,
  // Float32 arithmetic on widened operands, subnormal ones included.
  kWidened,
};

// Whether kInstruction differs from kWidened on this CPU. Thread-safe.
bool CpuHasBF16Dot();

// y[t * stride_elems + r] = sum over c of W[r, c] * x[t, c]
//
// for every token t and row r of the weights. Preconditions (checked):
// activations and weights have as many columns; the sizes of both; weights are
// 64-byte aligned; stride_elems >= rows, y.size() >= (tokens - 1) *
// stride_elems + rows. `y` has any alignment of floats and overlaps nothing;
// elements between its rows are left alone. Thread-safe; works on `pool`.
// Allocates nothing.
//
// Numerics: products of bf16 are exact in float32; they are added to one sum in
// the order of columns 1, 0, 3, 2, 5, 4, ..., rounding to nearest each time.
// The same bits on every target, for either `dot`, any number of threads, any
// number of other tokens, and sparse weights as for dense ones, unless a
// subnormal number occurs or a product overflows (which needs operands near
// 2^64). With u = 2^-24 and n = cols:
//   |y - exact| <= n u / (1 - n u) * sum_c |W[r, c] x[t, c]|
// plus, where something is below 2^-126, for each column
// 2^-126 * (2 + |W[r, c]| + |x[t, c]|); exact is of the rounded x. NaN and
// infinity propagate. Cost: the dot products from about 16 tokens on, else one
// read of the weights.
// Source: Intel 64 and IA-32 SDM, VDPBF16PS, for the order within a pair.
void MatMulBF16(const PackedBF16Weights& weights,
                const BF16Activations& activations, absl::Span<float> y,
                int64_t stride_elems, ThreadPool& pool,
                BF16Dot dot = BF16Dot::kInstruction);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_H_
