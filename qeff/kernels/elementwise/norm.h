// SPDX-License-Identifier: Apache-2.0
//
// Normalization of rows of float32.

#ifndef QEFF_KERNELS_ELEMENTWISE_NORM_H_
#define QEFF_KERNELS_ELEMENTWISE_NORM_H_

#include "absl/types/span.h"

namespace qeff {

// RmsNorm:   out[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i] + bias[i]
// LayerNorm: out[i] = (x[i] - mean) / sqrt(variance + epsilon) * weight[i]
//                     + bias[i]
// with mean and variance over the row. An empty `bias` is none. Preconditions
// (checked): all sizes are equal and not 0. `out` is `x` or overlaps nothing;
// any alignment of floats. Both run on the calling thread and allocate nothing.
// Thread-safe.
//
// Numerics: the same bits on every target. Sums are in double: 16 partial sums,
// element i to sum i % 16 in the order of i, then a tree, l and l + 8, ...,
// l + 1. The rest is float32, each operation rounded: the factor s = 1/sqrt
// once, then (x[i] * s) * weight[i] + bias[i], for LayerNorm with the float
// nearest to x[i] - mean. With u = 2^-24 and unless s or a result is subnormal
// the error is below 5 u (|normalized x[i] * weight[i]| + |result|).
// NaN propagates to the row, infinity as the formula does it.
void RmsNorm(double epsilon, absl::Span<const float> weight,
             absl::Span<const float> bias, absl::Span<const float> x,
             absl::Span<float> out);
void LayerNorm(double epsilon, absl::Span<const float> weight,
               absl::Span<const float> bias, absl::Span<const float> x,
               absl::Span<float> out);

// RmsNorm in place, without bias, of each of the heads of weight.size()
// elements that lie one after another in `heads`. Precondition (checked):
// weight.size() is not 0 and divides heads.size().
void RmsNormHeads(double epsilon, absl::Span<const float> weight,
                  absl::Span<float> heads);

}  // namespace qeff

#endif  // QEFF_KERNELS_ELEMENTWISE_NORM_H_
