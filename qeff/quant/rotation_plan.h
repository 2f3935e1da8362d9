// SPDX-License-Identifier: Apache-2.0
//
// How a model's hidden states and values are rotated, so that no channel
// carries much more than others, while it computes the same: what rotates is
// multiplied into the weights. To carry it out see rotate.h.
//
//   norms        weights into the layers that read them, and become 1
//   embeddings   E R1
//   q, k, v, gate, up, lm_head   W diag(norm) R1
//   o, down      R1^T W, and their biases
//   v, o         in addition by R2, within each head (not where v is clipped)
//
// Source: Ashkboos et al. 2024 (QuaRot); Liu et al. 2024 (SpinQuant), R1, R2.

#ifndef QEFF_QUANT_ROTATION_PLAN_H_
#define QEFF_QUANT_ROTATION_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/io/checkpoint.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"

namespace qeff {

// The key of a rotated model's config.json that says what it was made of: of
// equal values the models are equal. No program needs it.
inline constexpr char kRotationKey[] = "qeff_rotation";

struct RotateOptions {
  uint64_t seed = 0;  // of the signs
  // Linear layers whose weights are written as float32, so that nothing is lost
  // before they are quantized. All else keeps the type that it is stored in.
  HashSet<std::string> exact_modules;
};

// A tensor of the rotated model. Steps in the order that they are taken.
struct RotatedTensor {
  TensorInfo info;     // as it will be written
  std::string source;  // tensor that it is made of
  bool ones = false;   // a norm's weight that others have taken
  std::string norm;    // whose weights its columns are multiplied by; or empty
  bool value_columns = false;    // R2 on each head's columns
  bool hidden_columns = false;   // R1 on the columns
  int64_t first_value_row = -1;  // R2 on each head's rows from here on
  bool hidden_rows = false;      // R1 on the rows
  int64_t block = 0;             // whose R2

  bool changes() const {
    return ones || value_columns || hidden_columns || first_value_row >= 0 ||
           hidden_rows;
  }
};

struct RotationPlan {
  uint64_t seed = 0;
  std::vector<RotatedTensor> tensors;  // ordered by name
  bool unties_lm_head = false;
  uint64_t lm_head_bytes = 0;  // that an untied one adds, as it is stored now
  bool rotates_values = true;
  int64_t hidden_block = 0;  // Hadamard::block of R1 and R2
  int64_t value_block = 0;
  Json config;  // the config.json to write

  uint64_t Bytes() const;  // of all tensors
};

// Derives the rotations from the model's spec. Errors: kInvalidArgument naming
// the module for a norm that is no RMSNorm or has a bias, for a layer that is
// stored transposed, and for a model that is quantized.
absl::StatusOr<RotationPlan> PlanRotation(const Transformer& model,
                                          const RotateOptions& options);

// What will be rotated, and what untying costs, for a terminal.
std::string FormatRotation(const RotationPlan& plan);

}  // namespace qeff

#endif  // QEFF_QUANT_ROTATION_PLAN_H_
