// SPDX-License-Identifier: Apache-2.0
//
// Normalization of rows, and its gradients.

#ifndef QEFF_TRANSFORMER_NORM_H_
#define QEFF_TRANSFORMER_NORM_H_

#include "absl/types/span.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// y = x / sqrt(mean(x^2) + epsilon) * weight, row by row. x and y are
// [rows, n], weight has n elements; y may be x. Sums are in double; each
// element is rounded three times, so its relative error is below 3 * 2^-24.
// The same bits on every machine.
// Source: Zhang and Sennrich 2019 (Root Mean Square Layer Normalization).
void RmsNorm(MatrixView<const float> x, absl::Span<const float> weight,
             double epsilon, MatrixView<float> y);

// y = (x - mean) / sqrt(variance + epsilon) * weight + bias, row by row, with
// the biased variance; bias may be empty for none. Otherwise as RmsNorm; the
// difference to the mean is taken in double.
// Source: Ba et al. 2016 (Layer Normalization).
void LayerNorm(MatrixView<const float> x, absl::Span<const float> weight,
               absl::Span<const float> bias, double epsilon,
               MatrixView<float> y);

// Of a loss with the gradient dy in y, the gradients in x and the parameters.
// With n^ = (x - mean) / sqrt(variance + epsilon) (RmsNorm: n^ = x / rms), s
// the factor of n^ and g = dy * weight, row by row
//   dx       = s (g - mean(g) - n^ mean(g n^))   (RmsNorm: without mean(g))
//   dweight += sum over rows of dy n^
//   dbias   += sum over rows of dy               (empty: not wanted)
// x, dy and dx are [rows, n], dx may be dy; sizes are checked. Means are in
// double, sums over rows in float32 in their order: callers with many rows add
// up parts. The same bits on every machine. Thread-safe.
// Numerics: with u = 2^-24, dx is off by less than
// 6 u s (|g| + |mean(g)| + |n^| mean|g n^|), sums of r rows by (r + 2) u times
// the sum of the absolute terms.
void RmsNormBackward(MatrixView<const float> x, absl::Span<const float> weight,
                     double epsilon, MatrixView<const float> dy,
                     MatrixView<float> dx, absl::Span<float> dweight);
void LayerNormBackward(MatrixView<const float> x,
                       absl::Span<const float> weight, double epsilon,
                       MatrixView<const float> dy, MatrixView<float> dx,
                       absl::Span<float> dweight, absl::Span<float> dbias);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_NORM_H_
