// SPDX-License-Identifier: Apache-2.0
//
// Products of a packed integer weight matrix with float32 activations as they
// are: what quantizing the activations costs is the difference to MatMulInt.
// For evaluation; several times slower than MatMulInt.

#ifndef QEFF_KERNELS_MATMUL_INT_MATMUL_INT_FLOAT_H_
#define QEFF_KERNELS_MATMUL_INT_MATMUL_INT_FLOAT_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_int/matmul_int.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// Borrowed rows of float32: column c of token t is x[t * stride_elems + c].
struct FloatActivations {
  absl::Span<const float> x;
  int64_t tokens;
  int64_t stride_elems;
};

// y[t * stride_elems + r] = sum over c of W[r, c] * x[t, c]
//
// for every token t and row r of the weights. Preconditions (checked): the size
// and 64-byte alignment of the weights; tokens >= 1; activations.stride_elems
// >= cols and x.size() >= (tokens - 1) * activations.stride_elems + cols;
// stride_elems >= rows, y.size() >= (tokens - 1) * stride_elems + rows; for
// sparse weights, `scratch` has panel_bytes() of them, 64-byte aligned, for
// each thread of the pool. `x` and `y` have any alignment of floats; `y`
// overlaps nothing, and elements between its rows are left alone. Thread-safe;
// works on `pool`. Allocates nothing.
//
// Numerics, all float32 and rounded, without fused multiply-add: in a group,
// (code - zero) * x of its column i is added to partial sum p_(i % 4) in the
// order of i, d = (p_0 + p_2) + (p_1 + p_3), and y = ((0 + d_0 * s_0) + d_1 *
// s_1) + ..., where s_g is the scale of the group. The same bits on every
// target, for any number of threads and of other tokens. With u = 2^-24, G
// groups of n columns, m = ceil(n / 4) + G + 4 and no overflow:
//   |y - exact| <= m u / (1 - m u) * sum_c |W[r, c] x[t, c]|
// plus 2^-149 an operation where it underflows. NaN and infinity propagate
// within their token.
void MatMulIntFloat(const PackedIntWeights& weights,
                    const FloatActivations& activations, absl::Span<float> y,
                    int64_t stride_elems, ThreadPool& pool,
                    absl::Span<uint8_t> scratch = {});

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_MATMUL_INT_FLOAT_H_
