// SPDX-License-Identifier: Apache-2.0
//
// Normalization of rows.

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

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_NORM_H_
