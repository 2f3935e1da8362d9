// SPDX-License-Identifier: Apache-2.0
//
// Plain arithmetic over rows of float32: sums, products, limits, rotation of
// heads, exponentials. All run on the calling thread, allocate nothing, take
// any alignment of floats, are thread-safe and give the same bits on every
// target. NaN propagates.

#ifndef QEFF_KERNELS_ELEMENTWISE_ARITHMETIC_H_
#define QEFF_KERNELS_ELEMENTWISE_ARITHMETIC_H_

#include "absl/types/span.h"

namespace qeff {

// x[i] += y[i], and x[i] *= y[i]. Preconditions (checked): equal sizes. `y` is
// `x` or does not overlap it.
void AddInPlace(absl::Span<const float> y, absl::Span<float> x);
void MultiplyInPlace(absl::Span<const float> y, absl::Span<float> x);

// Limits x[i] to [-limit, limit]; NaN stays. Precondition: limit >= 0.
void ClampInPlace(float limit, absl::Span<float> x);

// x[i] = e^x[i], relative error below 0.7 * 2^-23 (0.7 units in the last
// place) where the result is a normal number, and half the least subnormal
// more below; infinity above 88.73, 0 below -104.
void ExpInPlace(absl::Span<float> x);

// Rotary embedding of heads of n = 2 * cosines.size() elements that lie one
// after another in `heads`: the pair (a, b) at (i, i + n/2) of a head becomes
//   (a * cosines[i] - b * sines[i], b * cosines[i] + a * sines[i])
// with every operation rounded. Preconditions (checked): sines.size() ==
// cosines.size() > 0, heads.size() is a multiple of n. No overlap.
// Source: Su et al. 2021 (RoFormer), with halves in place of neighbours.
void RotateHeads(absl::Span<const float> cosines, absl::Span<const float> sines,
                 absl::Span<float> heads);

}  // namespace qeff

#endif  // QEFF_KERNELS_ELEMENTWISE_ARITHMETIC_H_
