// SPDX-License-Identifier: Apache-2.0
//
// The non-linear parts of feed-forward layers, and other elementwise steps.

#ifndef QEFF_TRANSFORMER_ACTIVATION_H_
#define QEFF_TRANSFORMER_ACTIVATION_H_

#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// The formulas of Activation for one value, in float32:
//   silu       x / (1 + e^-x)
//   gelu       x/2 * (1 + erf(x / sqrt2))
//   gelu_tanh  x / (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3), which
//              is x/2 * (1 + tanh u)
//   relu       max(x, 0)
// The error is below 8 * 2^-24 * |x|. Same bits on every machine with the same
// C library (gelu), on every machine (others).
// Source: Hendrycks and Gimpel 2016 (GELU); Elfwing et al. 2017 (SiLU).
float ActivationOf(Activation activation, float x);

// x = act(x) for every element.
void ApplyActivation(Activation activation, MatrixView<float> x);

// gate = act(gate) * up for every element of two matrices of the same shape.
// Source: Shazeer 2020 (GLU Variants Improve Transformer).
void ApplyGatedActivation(Activation activation, MatrixView<float> gate,
                          MatrixView<const float> up);

// x += y for every element of two matrices of the same shape.
void AddTo(MatrixView<float> x, MatrixView<const float> y);

// Clamps every element to [-limit, limit]; NaN stays NaN. Precondition:
// limit > 0.
void Clip(float limit, MatrixView<float> x);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_ACTIVATION_H_
