// SPDX-License-Identifier: Apache-2.0
//
// Activation functions over rows of float32, alone and as the product of a
// gated feed-forward layer.

#ifndef QEFF_KERNELS_ELEMENTWISE_ACTIVATE_H_
#define QEFF_KERNELS_ELEMENTWISE_ACTIVATE_H_

#include "absl/types/span.h"
#include "qeff/spec/transformer_spec.h"

namespace qeff {

// x[i] = f(x[i]) with f as Activation defines it. Runs on the calling thread,
// allocates nothing, takes any alignment of floats. Thread-safe.
//
// Numerics: the same bits on every target. NaN stays NaN; SiLU and both GELU of
// -infinity are NaN (infinity times 0), of infinity infinity. With u = 2^-24
// and results that are normal numbers, relative errors are below
//   SiLU 4 u · GELU 8 u · ReLU exact · GELU tanh (4 + 3 |w|) u
// where w = 2 sqrt(2/pi) (x + 0.044715 x^3) for negative x and 0 else: the tail
// of GELU tanh has a larger relative, but a vanishing absolute error. Results
// that pass through subnormal numbers (SiLU below -87, GELU below -13, GELU
// tanh below -9) lose 2^-149 |x| more.
void ActivateInPlace(Activation activation, absl::Span<float> x);

// up[i] = f(gate[i]) * up[i], with one more rounding. `gate` is read only.
// Preconditions (checked): equal sizes. No overlap.
void ActivateGate(Activation activation, absl::Span<const float> gate,
                  absl::Span<float> up);

}  // namespace qeff

#endif  // QEFF_KERNELS_ELEMENTWISE_ACTIVATE_H_
