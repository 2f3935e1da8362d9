// SPDX-License-Identifier: Apache-2.0
//
// Products of a packed integer weight matrix with quantized activations, for
// any number of tokens: prefill, which the dot products bound, and decode,
// which reading the weights bounds. Weights are packed once with
// PackIntWeights, activations for each call with QuantizeActivations.

#ifndef QEFF_KERNELS_MATMUL_INT_MATMUL_INT_H_
#define QEFF_KERNELS_MATMUL_INT_MATMUL_INT_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// Borrowed packed weights, 64-byte aligned, layout.total_bytes() of them.
struct PackedIntWeights {
  PackedIntLayout layout;
  absl::Span<const uint8_t> bytes;
};

// Borrowed activations, as QuantizeActivations wrote them.
struct QuantizedActivations {
  ActivationLayout layout;
  absl::Span<const uint8_t> bytes;
};

// Where the product of some weights goes: element (t, r) to
// y[t * stride_elems + r].
struct IntProduct {
  PackedIntWeights weights;
  absl::Span<float> y;
  int64_t stride_elems;
};

// Products of a call.
inline constexpr int64_t kMaxIntProducts = 4;

// For each product, every token t and row r of its weights,
//
//   y[t * stride_elems + r] = sum over c of W[r, c] * x[t, c]
//
// as several calls would, but the threads start once: the products of a layer
// that share an input are small beside the time that takes. Preconditions
// (checked): at most kMaxIntProducts; activations.layout.Fits each
// weights.layout, the sizes and alignment of both, stride_elems >= rows,
// y.size() >= (tokens - 1) * stride_elems + rows. `y` has any alignment of
// floats and overlaps nothing; elements between its rows are left alone.
// Thread-safe; works on `pool`. Allocates nothing.
//
// Numerics: with d = the exact sum over the columns of group g of
// (code - zero) * activation code, and all else float32, rounded,
//   y = (((0 + d_0 * s_0) + d_1 * s_1) + ...) * scale of the token
// where s_g is the scale of the group. The same bits on every target and for
// any number of threads. With u = 2^-24, G groups and no overflow,
//   |y - exact| <= (G + 3) u / (1 - (G + 3) u) * scale * sum_g |d_g s_g|
// plus 2^-149 an operation where it underflows; exact is what the codes and
// scales stand for.
// Cost: the dot products from about 16 tokens on, else one read of the weights.
void MatMulInts(absl::Span<const IntProduct> products,
                const QuantizedActivations& activations, ThreadPool& pool);

// One of them.
void MatMulInt(const PackedIntWeights& weights,
               const QuantizedActivations& activations, absl::Span<float> y,
               int64_t stride_elems, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_MATMUL_INT_H_
