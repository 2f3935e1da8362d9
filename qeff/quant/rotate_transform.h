// SPDX-License-Identifier: Apache-2.0
//
// A rotation as a named change of a model, for pipelines and the facade: to be
// followed by a quantization.

#ifndef QEFF_QUANT_ROTATE_TRANSFORM_H_
#define QEFF_QUANT_ROTATE_TRANSFORM_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "qeff/transformer/model_transform.h"

namespace qeff {

// Rotates by signs of `seed`. The linear layers of the blocks are written as
// float32, so that what follows rounds them for the first time. Errors: those
// of PlanRotation and RotateModel. Thread-safe.
class RotateTransform : public ModelTransform {
 public:
  explicit RotateTransform(uint64_t seed = 0) : seed_(seed) {}

  // "rotate".
  std::string name() const override { return "rotate"; }

  absl::StatusOr<TransformReport> Apply(const Transformer& model,
                                        const std::string& output,
                                        ThreadPool& pool) override;

 private:
  const uint64_t seed_;
};

}  // namespace qeff

#endif  // QEFF_QUANT_ROTATE_TRANSFORM_H_
