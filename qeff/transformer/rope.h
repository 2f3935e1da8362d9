// SPDX-License-Identifier: Apache-2.0
//
// Rotary position embeddings.

#ifndef QEFF_TRANSFORMER_ROPE_H_
#define QEFF_TRANSFORMER_ROPE_H_

#include <cstdint>

#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// cos and sin of position * frequency for positions [0, positions()), each
// computed in double and rounded once. Thread-compatible.
class RopeTable {
 public:
  RopeTable() = default;
  // Precondition: spec.position is kRope.
  RopeTable(const TransformerSpec& spec, int64_t positions);

  int64_t positions() const { return cos_.rows(); }
  int64_t head_dim() const { return 2 * cos_.cols(); }
  const float* cos(int64_t position) const { return cos_.row(position); }
  const float* sin(int64_t position) const { return sin_.row(position); }

 private:
  Matrix<float> cos_;  // [positions, head_dim / 2]
  Matrix<float> sin_;
};

// Rotates each head of each row in place: x of [rows, heads * head_dim], row r
// at position first_position + r. With h = head_dim / 2, elements i and i + h
// become a cos - b sin and b cos + a sin. Preconditions (checked): whole heads,
// positions inside the table. An element's error is below
// 3 * 2^-24 * (|a| + |b|) plus that of its table entries.
// Source: Su et al. 2021 (RoFormer), halves as in Hugging Face's models.
void ApplyRope(const RopeTable& table, int64_t first_position,
               MatrixView<float> x);

// The gradient in what ApplyRope was given, from the gradient in what it made,
// in place: the rotation back. Otherwise as ApplyRope.
void ApplyRopeBackward(const RopeTable& table, int64_t first_position,
                       MatrixView<float> dx);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_ROPE_H_
