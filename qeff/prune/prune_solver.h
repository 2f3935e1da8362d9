// SPDX-License-Identifier: Apache-2.0
//
// Pruning as the solver of a walk over a model's blocks: Wanda, and SparseGPT
// on weights that were first corrected for what the layers before have lost
// (gap_correction.h). Pruned weights go to the writer as soon as they are
// known, in the type of the checkpoint, and the walk goes on with them.

#ifndef QEFF_PRUNE_PRUNE_SOLVER_H_
#define QEFF_PRUNE_PRUNE_SOLVER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/calibration/input_statistics.h"
#include "qeff/calibration/layer_solver.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/prune_plan.h"
#include "qeff/prune/prune_report.h"
#include "qeff/quant/gptq.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"

namespace qeff {

struct PruneSolverOptions {
  // SparseGPT's, relative to the mean of the Hessian's diagonal. Ten times the
  // paper's, as for GPTQ (GptqSolverOptions::damping).
  double damping = 0.1;
  // FitSurvivors after it.
  int fit_passes = 4;
  // Whether SparseGPT corrects for the layers before.
  bool correct_gaps = true;
};

// Borrows its arguments. Not thread-safe. Precondition: the method is not
// kMagnitude, which has no use for calibration.
class PruneSolver : public LayerSolver {
 public:
  // Rows of a layer that are solved at a time.
  static constexpr int64_t kPieceRows = 2048;

  PruneSolver(const PrunePlan& plan, const PruneSolverOptions& options,
              ThreadPool& pool);

  // Where results go; before the first Solve or Restore.
  void set_writer(CheckpointWriter* writer) { writer_ = writer; }

  // Memory for the widest layer, besides inputs and weights.
  uint64_t MemoryBytes() const;
  // Multiplications and additions, counted as two, of factors and products.
  double Flops() const;

  // The layers that are done, in order.
  const std::vector<PruneReport>& reports() const { return reports_; }

  bool Changes(const LinearModule& module) const override;
  bool WantsGaps() const override {
    return sparse_gpt() && options_.correct_gaps;
  }
  StatisticsOptions WantedToSolve() const override;
  absl::Status Solve(absl::Span<CalibratedLinear* const> layers,
                     InputStatistics* inputs) override;
  absl::Status SolveLmHead(InputStatistics* inputs) override;
  absl::StatusOr<Json> FinishStep() override;
  absl::Status Restore(int64_t step, const Json& state) override;

 private:
  struct Inputs;

  bool sparse_gpt() const { return plan_.method == PruneMethod::kSparseGpt; }
  Inputs TakeInputs(const PrunedLayer& first, InputStatistics* statistics);
  // Prunes rows [begin, begin + weights.rows()) and adds losses.
  void SolveRows(const PrunedLayer& layer, int64_t begin, const Inputs& inputs,
                 MatrixView<float> weights, PruneReport* report);
  // Adds what magnitude would lose on `sample`, rows of a layer, and its
  // energy.
  void AddOtherLosses(const SparsityPattern& pattern,
                      const FactoredHessian& hessian,
                      const Matrix<float>& sample, PruneReport* report);
  // Replaces `weights` by what is written of them.
  absl::Status Write(const PrunedLayer& layer, MatrixView<float> weights);
  absl::StatusOr<std::string> ChecksumOf(const PrunedLayer& layer) const;

  const PrunePlan& plan_;
  const PruneSolverOptions options_;
  ThreadPool& pool_;
  CheckpointWriter* writer_ = nullptr;
  HashMap<std::string, const PrunedLayer*> layers_;  // by module
  std::vector<PruneReport> reports_;
  size_t reported_ = 0;  // by FinishStep
};

}  // namespace qeff

#endif  // QEFF_PRUNE_PRUNE_SOLVER_H_
