// SPDX-License-Identifier: Apache-2.0
//
// Carries out a rotation: the result is a checkpoint like any other, which
// computes the same and costs nothing more when it runs.
//
//   QEFF_ASSIGN_OR_RETURN(RotationPlan plan, PlanRotation(*model, {}));
//   std::fputs(FormatRotation(plan).c_str(), stdout);
//   QEFF_RETURN_IF_ERROR(RotateModel(*model, plan, output, *pool));

#ifndef QEFF_QUANT_ROTATE_H_
#define QEFF_QUANT_ROTATE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/rotation_plan.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct RotateRunOptions {
  // Called with bytes of the output; an error ends the work. May be null.
  std::function<absl::Status(uint64_t done, uint64_t total)> progress;
};

// Writes the model that `plan` (made from `model`) describes to the new folder
// `output`, streamed: memory is that of the largest o or down in float32. The
// bytes do not depend on `pool`. Errors, after which nothing is left: those of
// CheckpointWriter; kDataLoss naming the tensor and element of a weight that is
// not finite; kUnavailable when `model` changed meanwhile; kResourceExhausted
// when memory is out; those of options.progress. Numerics: Hadamard, and the
// products with a norm's weights are rounded once.
absl::Status RotateModel(const Transformer& model, const RotationPlan& plan,
                         const std::string& output, ThreadPool& pool,
                         const RotateRunOptions& options = {});

}  // namespace qeff

#endif  // QEFF_QUANT_ROTATE_H_
