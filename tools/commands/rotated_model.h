// SPDX-License-Identifier: Apache-2.0
//
// The rotated copy of a model that `qeff quantize --algorithm=rotate,...` works
// on: a folder beside the output that lasts as long as the run.

#ifndef QEFF_TOOLS_COMMANDS_ROTATED_MODEL_H_
#define QEFF_TOOLS_COMMANDS_ROTATED_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/rotation_plan.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"
#include "qeff/util/output_file.h"
#include "tools/command.h"

namespace qeff {

// Not thread-safe.
class RotatedModel {
 public:
  // The rotation of `model`, by signs of `seed`, for a quantization that does
  // what `plan` (made from `model`) says: what that quantizes is float32 in the
  // copy. Errors: those of PlanRotation.
  static absl::StatusOr<RotationPlan> Plan(const Transformer& model,
                                           const QuantizePlan& plan,
                                           uint64_t seed);

  // Writes it to OUTPUT.rotated and opens it. One that a killed run has left
  // there is used if it is of the same model, seed and types, and replaced
  // otherwise. `output_bytes` is what the output will take. Errors:
  // kAlreadyExists when `output` exists, or something else at OUTPUT.rotated;
  // kUnavailable when another process uses it, or the disk has no room for it
  // and the output; kCancelled after a signal; those of RotateModel.
  static absl::StatusOr<std::unique_ptr<RotatedModel>> Make(
      const Transformer& model, const RotationPlan& plan,
      const std::string& output, uint64_t output_bytes, const CommandEnv& env);

  RotatedModel(const RotatedModel&) = delete;
  RotatedModel& operator=(const RotatedModel&) = delete;
  // Removes the copy.
  ~RotatedModel();

  const std::shared_ptr<const Transformer>& model() const { return model_; }

 private:
  explicit RotatedModel(std::string path) : path_(std::move(path)) {}

  absl::Status Take(const RotationPlan& plan, bool* complete);
  absl::Status Lock();

  const std::string path_;
  FileDescriptor lock_;  // of the folder, while it is this object's
  std::shared_ptr<const Transformer> model_;
};

// Makes `plan`, of a rotated model, one of `original`: sizes before are those
// of its tensors, and its config says nothing of the copy.
void RestoreOriginal(const Checkpoint& original, QuantizePlan* plan);

// For --json.
Json RotationJson(const RotationPlan& plan);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_ROTATED_MODEL_H_
