// SPDX-License-Identifier: Apache-2.0
//
// What changes the linear layers of a model that is walked with calibration
// data (block_walk.h).

#ifndef QEFF_CALIBRATION_LAYER_SOLVER_H_
#define QEFF_CALIBRATION_LAYER_SOLVER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/calibration/input_statistics.h"
#include "qeff/calibration/solved_block.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"

namespace qeff {

// A linear layer of the block at hand.
struct CalibratedLinear {
  const LinearModule* module;
  LinearWeights weights;  // a solver replaces them by what the new model has
};

// Inputs of the layers of a block.
struct BlockInputs {
  InputStatistics qkv, o, ffn, down;
};

// What changes the layers. Errors end the walk, which returns them.
class LayerSolver {
 public:
  virtual ~LayerSolver() = default;

  // Whether `module` is to be changed: others are not given to Solve.
  virtual bool Changes(const LinearModule& module) const = 0;

  // Whether `inputs` is to say what they lack, compared with the original model
  // (InputStatistics::AddGap). The original model runs beside the changed one
  // then.
  virtual bool WantsGaps() const = 0;

  // What the statistics that Prepare and Solve get are to count besides gaps.
  virtual StatisticsOptions WantedToPrepare() const { return {}; }
  virtual StatisticsOptions WantedToSolve() const { return {}; }

  // Whether Prepare is to be called.
  virtual bool WantsPrepare() const { return false; }

  // Before the layers of `block`: what their inputs are when the block is as in
  // the original model, all changed blocks before it. May change its norms,
  // and with Adjust its layers, so that the block still computes the same: the
  // original model runs with these changes, too.
  virtual absl::Status Prepare(int64_t /*block*/, BlockInputs* /*inputs*/,
                               BlockWeights* /*norms*/) {
    return absl::OkStatus();
  }

  // Changes the weights of a layer of that block as they are in the original
  // model. Called for every layer before it runs, also for those that Solve
  // does not see; may be called twice.
  virtual void Adjust(CalibratedLinear* /*layer*/) {}

  // Changes `layers`, all of which have the inputs that `inputs` describes.
  virtual absl::Status Solve(absl::Span<CalibratedLinear* const> layers,
                             InputStatistics* inputs) = 0;

  // The same for lm_head, whose weights it reads by itself: they may be
  // better not held whole.
  virtual absl::Status SolveLmHead(InputStatistics* inputs) = 0;

  // Whether TuneBlock is to be called. The original model runs beside the
  // changed one then: WantsGaps must be true, too.
  virtual bool WantsBlock() const { return false; }

  // All layers of a block are solved: may change its weights and norms once
  // more, with what they do together in sight.
  virtual absl::Status TuneBlock(const SolvedBlock& /*block*/) {
    return absl::OkStatus();
  }

  // All layers of a step (a block, or lm_head) are solved. Makes everything
  // that it has written durable and returns what Restore needs.
  virtual absl::StatusOr<Json> FinishStep() = 0;

  // Instead of solving a step that an earlier run has finished: checks that
  // its results are there. `step` is what FinishStep returned.
  virtual absl::Status Restore(int64_t step, const Json& state) = 0;
};

}  // namespace qeff

#endif  // QEFF_CALIBRATION_LAYER_SOLVER_H_
