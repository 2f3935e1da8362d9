// SPDX-License-Identifier: Apache-2.0
//
// Carries out a pruning plan. The result is a checkpoint like any other whose
// removed weights are 0.
//
//   QEFF_ASSIGN_OR_RETURN(PrunePlan plan,
//                         PlanPruning(model->checkpoint(), model->map(), {}));
//   QEFF_ASSIGN_OR_RETURN(TokenSample sample, SampleTokens(ids, bos, {}));
//   QEFF_ASSIGN_OR_RETURN(
//       PruneResult result,
//       PruneCalibrated(*model, plan, sample, output, {}, *pool));

#ifndef QEFF_PRUNE_PRUNE_MODEL_H_
#define QEFF_PRUNE_PRUNE_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/calibration/calibrated_run.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/prune_plan.h"
#include "qeff/prune/prune_report.h"
#include "qeff/prune/prune_solver.h"
#include "qeff/quant/gptq_solver.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// allow_bad_inputs has no meaning here.
struct PruneRunOptions : CalibratedRunOptions {
  PruneSolverOptions solver;
};

struct PruneResult : CalibratedRunResult {
  std::vector<PruneReport> layers;  // of earlier runs, too
};

// Writes the model that `plan` (made from `model`) describes to the new folder
// `output`, as RunCalibrated does: Wanda and SparseGPT. Its errors, and
// kDataLoss naming the tensor with a weight, or the layer with inputs, that are
// not finite; kResourceExhausted when memory is out.
absl::StatusOr<PruneResult> PruneCalibrated(const Transformer& model,
                                            const PrunePlan& plan,
                                            const TokenSample& sample,
                                            const std::string& output,
                                            const PruneRunOptions& options,
                                            ThreadPool& pool);

// The same by magnitude, layer by layer in the memory of the largest; without
// groups, weights of a layer compete with each other. Called between layers:
// `check`, an error of which ends the work; may be null. Errors, after which
// nothing is left: those of CheckpointWriter; kDataLoss naming the tensor with
// a weight that is not finite; kUnavailable when `model` changed meanwhile;
// kResourceExhausted.
absl::StatusOr<PruneResult> PruneByMagnitude(
    const Transformer& model, const PrunePlan& plan, const std::string& output,
    const std::function<absl::Status()>& check, ThreadPool& pool);

// SparseGPT for a quantizer that prunes as it goes
// (CalibratedQuantizeOptions::solver.pruner). `plan` must outlive it.
RowPruner SparseGptRowPruner(const PrunePlan& plan,
                             const PruneSolverOptions& options,
                             ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_PRUNE_MODEL_H_
