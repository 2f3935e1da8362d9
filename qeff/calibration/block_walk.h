// SPDX-License-Identifier: Apache-2.0
//
// Walks a model block by block with calibration data and lets a solver change
// the linear layers: what quantization and pruning share. A layer's statistics
// come from inputs that all changed layers before it have made ("true
// sequential"), within a block in the order q, k, v; o; gate, up; down. One
// block is in memory at a time, and what is finished is in a journal, so that a
// run that was killed goes on to the same result.
//
//   class Solver : public LayerSolver { ... };
//   QEFF_ASSIGN_OR_RETURN(WalkPlan plan, PlanWalk(*model, sample, ...));
//   return WalkBlocks(*model, sample, plan, *journal, &solver, options, *pool);

#ifndef QEFF_CALIBRATION_BLOCK_WALK_H_
#define QEFF_CALIBRATION_BLOCK_WALK_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/calibration/journal.h"
#include "qeff/calibration/layer_solver.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/calibration/walk_plan.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct WalkOptions {
  // Where hidden states lie, and what spills.
  std::string work_folder;
  // Called between chunks; an error (a signal) ends the walk. May be null.
  std::function<absl::Status()> check;
  // Called when a step is finished, with the number of those that are. May be
  // null.
  std::function<void(int64_t steps_done, int64_t steps)> progress;
  // Prepare and Solve get inputs that are not finite, too, and say what they
  // did.
  bool allow_bad_inputs = false;
};

// Seconds that the parts of a walk took.
struct WalkTimes {
  double load = 0;     // reading and packing weights
  double forward = 0;  // running blocks
  double hessian = 0;  // and the other statistics
  double solve = 0;    // the solver's
  double tune = 0;     // TuneBlock
  double save = 0;     // hidden states, FinishStep, journal
};

// Walks. The same results for any number of threads. Errors: kDataLoss naming
// the layer whose inputs are not finite; kInvalidArgument for a journal that
// does not fit the model or the files in work_folder; kUnavailable; those of
// `solver` and of reading the model; kResourceExhausted without memory. After
// an error the finished steps can be resumed.
absl::StatusOr<WalkTimes> WalkBlocks(const Transformer& model,
                                     const TokenSample& sample,
                                     const WalkPlan& plan, Journal* journal,
                                     LayerSolver* solver,
                                     const WalkOptions& options,
                                     ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_CALIBRATION_BLOCK_WALK_H_
