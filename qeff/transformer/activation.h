// SPDX-License-Identifier: Apache-2.0
//
// The non-linear parts of feed-forward layers and other elementwise steps, and
// their gradients.

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

// The derivative at x, in float32:
//   silu       s + x s (1 - s) with s = 1 / (1 + e^-x)
//   gelu       (1 + erf(x / sqrt2)) / 2 + x e^(-x^2/2) / sqrt(2 pi)
//   gelu_tanh  s + x s (1 - s) w' with w = 2u and s = 1 / (1 + e^-w)
//   relu       1 above 0, else 0
// For |x| below 1e9 the error is below 16 * 2^-24: absolute, since the first
// three cross 0. The same on every machine where ActivationOf is.
float ActivationSlopeOf(Activation activation, float x);

// Of a loss with the gradient dy in act(x), the gradient in x, in its place:
// x = act'(x) * dy for every element of two matrices of the same shape.
void ApplyActivationBackward(Activation activation, MatrixView<float> x,
                             MatrixView<const float> dy);

// The same for act(gate) * up:
//   gate = act'(gate) * up * dy and up = act(gate) * dy
// for every element of three matrices of the same shape.
void ApplyGatedActivationBackward(Activation activation, MatrixView<float> gate,
                                  MatrixView<float> up,
                                  MatrixView<const float> dy);

// x += y for every element of two matrices of the same shape.
void AddTo(MatrixView<float> x, MatrixView<const float> y);

// Clamps every element to [-limit, limit]; NaN stays NaN. Precondition:
// limit > 0.
void Clip(float limit, MatrixView<float> x);

// The gradient before Clip from that behind it, in place: dx = 0 where clipped
// = Clip(x) is at a limit. (A value that was exactly a limit before passes none
// either.) Preconditions: limit > 0; the same shape (checked).
void ClipBackward(float limit, MatrixView<const float> clipped,
                  MatrixView<float> dx);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_ACTIVATION_H_
