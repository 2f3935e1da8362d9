// SPDX-License-Identifier: Apache-2.0
//
// What a walk over a model with calibration data will take, before it begins.

#ifndef QEFF_CALIBRATION_WALK_PLAN_H_
#define QEFF_CALIBRATION_WALK_PLAN_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "qeff/calibration/layer_solver.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// What a walk will take.
struct WalkPlan {
  bool lm_head = false;        // is calibrated too, as the last step
  bool spill = false;          // activations lie in files
  uint64_t peak_bytes = 0;     // of resident memory, about
  uint64_t scratch_bytes = 0;  // of disk, for hidden states and what spills
  // Of matrix products: linear layers and attention's scores and sums; what
  // Hessians and gaps take. Multiplications and additions.
  double forward_flops = 0;
  double hessian_flops = 0;
};

// Plans a walk over `sample`. `solver_bytes`: what the solver needs besides
// inputs and layers. `memory_limit_bytes` 0: no limit. Errors:
// kResourceExhausted when it cannot be kept, naming what is needed;
// kInvalidArgument for a token that the model does not have.
absl::StatusOr<WalkPlan> PlanWalk(const Transformer& model,
                                  const TokenSample& sample,
                                  const LayerSolver& solver, bool lm_head,
                                  uint64_t solver_bytes,
                                  uint64_t memory_limit_bytes);

}  // namespace qeff

#endif  // QEFF_CALIBRATION_WALK_PLAN_H_
