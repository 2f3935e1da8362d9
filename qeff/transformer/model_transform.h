// SPDX-License-Identifier: Apache-2.0
//
// A named change of a model, such as a quantization: model folder in, model
// folder out, and a report of whether it applied.

#ifndef QEFF_TRANSFORMER_MODEL_TRANSFORM_H_
#define QEFF_TRANSFORMER_MODEL_TRANSFORM_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct TransformReport {
  std::string name;      // of the transform
  bool applied = false;  // whether anything was changed and written
  std::string detail;    // what was done, or why nothing was
  int64_t tensors = 0;   // tensors that were changed
};

// Transforms are applied in the order that the user gives, each to the folder
// that the one before wrote. Thread-compatible.
class ModelTransform {
 public:
  virtual ~ModelTransform() = default;

  // Short and stable, such as "quantize(int4_g128)".
  virtual std::string name() const = 0;

  // Writes the changed model to the new folder `output`. A transform that has
  // nothing to change in this model reports applied = false and writes
  // nothing. After an error nothing is left at `output`.
  virtual absl::StatusOr<TransformReport> Apply(const Transformer& model,
                                                const std::string& output,
                                                ThreadPool& pool) = 0;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_MODEL_TRANSFORM_H_
