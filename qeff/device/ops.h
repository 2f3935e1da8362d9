// SPDX-License-Identifier: Apache-2.0
//
// What a block computes besides its products, for one token. Plain loops:
// together they are a few percent of a token's time. Sums and functions are in
// double, rounded to float once; the same bits on every machine. NaN
// propagates. Thread-safe.

#ifndef QEFF_DEVICE_OPS_H_
#define QEFF_DEVICE_OPS_H_

#include "absl/types/span.h"
#include "qeff/device/model.h"
#include "qeff/spec/transformer_spec.h"

namespace qeff {
namespace internal_device {

// out = norm(x) as NormKind defines it; `out` may be `x`. Sizes are equal.
void Normalize(NormKind kind, double epsilon, const DeviceNorm& norm,
               absl::Span<const float> x, absl::Span<float> out);

// RMSNorm of each of the heads that lie one after another in `heads`, over
// weight.size() elements each.
void NormalizeHeads(double epsilon, absl::Span<const float> weight,
                    absl::Span<float> heads);

// Rotates the pairs (i, i + n/2) of each head of n = 2 * cosines.size()
// elements in `heads`: (a, b) becomes (a cos - b sin, b cos + a sin).
void Rotate(absl::Span<const float> cosines, absl::Span<const float> sines,
            absl::Span<float> heads);

// Clamps to +-limit; NaN stays.
void Clamp(float limit, absl::Span<float> x);

// x = softmax(scale * x + slope * (i - (n - 1))) over i < n: the last element
// is the query's own position. slope 0 is no ALiBi. n >= 1.
void ScaledSoftmax(float scale, float slope, absl::Span<float> x);

// x = activation(x).
void Activate(Activation activation, absl::Span<float> x);

// x += y, and x *= y.
void Add(absl::Span<const float> y, absl::Span<float> x);
void Multiply(absl::Span<const float> y, absl::Span<float> x);

}  // namespace internal_device
}  // namespace qeff

#endif  // QEFF_DEVICE_OPS_H_
