// SPDX-License-Identifier: Apache-2.0
//
// GPTQ as the solver of a walk over a model's blocks: a layer is first
// corrected for what the layers before it have lost (gap_correction.h), then
// quantized. Codes go to the writer as soon as they are known, and the walk
// goes on with what they stand for.

#ifndef QEFF_QUANT_GPTQ_SOLVER_H_
#define QEFF_QUANT_GPTQ_SOLVER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/calibration/input_statistics.h"
#include "qeff/calibration/layer_solver.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/awq_folds.h"
#include "qeff/quant/gptq.h"
#include "qeff/quant/observer.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/quantize_report.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/quant/timed_products.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"

namespace qeff {

// Removes weights of a layer before what is left is quantized.
struct RowPruner {
  // What it does, for the run's description.
  std::string name;
  // GptqOptions::order_group, and what it takes, times rows cols^2 of a layer.
  int order_group = 1;
  double products = 0;
  // Sets some of `weights` [rows, cols] to 0, and may change the others. The
  // Hessian is usable.
  std::function<void(const PlannedTensor& tensor,
                     const FactoredHessian& hessian, MatrixView<float> weights)>
      prune;
};

struct GptqSolverOptions {
  // Scales that are folded in first (awq_folds.h).
  absl::optional<FoldSearch> folds;
  // Of schemes with static inputs. kMse or what measured best: README.md.
  Observer observer = Observer::kMse;
  // False: layers are rounded to nearest, with searched groups, and not
  // corrected.
  bool propagate = true;
  // GptqOptions::damping. Ten times the paper's: it also keeps the correction
  // and the refined codes from fitting the sample. 0.1 and 0.2 measured alike,
  // 0.02 worse.
  double damping = 0.1;
  // Prunes as well; needs `propagate`. A layer without a usable Hessian stays
  // dense.
  absl::optional<RowPruner> pruner;
};

// Where a solver's time goes.
struct SolverWork {
  TimedWork factor_products;  // of Cholesky factors
  double factor_seconds = 0;  // of all that makes these of Hessians
  TimedWork correction;      // weights for gaps
  TimedWork codes_products;  // of passes over the columns and refining
  double codes_seconds = 0;  // of all of that: products, choosing, writing
};

// Borrows its arguments. Not thread-safe.
class GptqSolver : public LayerSolver {
 public:
  // Rows of a layer that are solved at a time.
  static constexpr int64_t kPieceRows = 2048;

  GptqSolver(const Transformer& model, const QuantizePlan& plan,
             const GptqSolverOptions& options, ThreadPool& pool);

  // Where results go; before the first Solve or Restore.
  void set_writer(CheckpointWriter* writer) { writer_ = writer; }

  // Takes what rows of blocks' layers have become, from row `begin` on, instead
  // of the writer: they are written by whoever takes them, before FinishStep.
  // `weights`: what was quantized.
  using Keeper = std::function<void(const PlannedTensor& tensor, int64_t begin,
                                    MatrixView<const float> weights,
                                    const QuantizedRowBytes& rows)>;
  void set_keeper(Keeper keeper) { keeper_ = std::move(keeper); }

  // Norms of the block at hand, to be written where it writes norms.
  void ReplaceNorms(const BlockWeights& norms) {
    if (!folds_.has_value()) return;
    norms_.attention_norm = norms.attention_norm;
    norms_.ffn_norm = norms.ffn_norm;
  }

  // Whether lm_head is quantized.
  bool ChangesLmHead() const { return lm_head_ != nullptr; }

  // Memory for the widest layer, besides inputs and weights.
  uint64_t MemoryBytes() const;

  // Multiplications and additions, counted as two, of factors and products.
  double Flops() const;

  // Of what it has solved itself.
  const SolverWork& work() const { return work_; }

  // Whether it writes tensor `name`, one that the plan keeps.
  bool Writes(const std::string& name) const {
    return folds_.has_value() && folds_->Changes(name);
  }

  // The layers that are done, in order.
  const std::vector<LayerReport>& reports() const { return reports_; }

  bool Changes(const LinearModule& module) const override;
  bool WantsGaps() const override { return options_.propagate; }
  bool WantsPrepare() const override { return folds_.has_value(); }
  StatisticsOptions WantedToPrepare() const override {
    return folds_->Wanted();
  }
  StatisticsOptions WantedToSolve() const override;
  absl::Status Prepare(int64_t block, BlockInputs* inputs,
                       BlockWeights* norms) override;
  void Adjust(CalibratedLinear* layer) override;
  absl::Status Solve(absl::Span<CalibratedLinear* const> layers,
                     InputStatistics* inputs) override;
  absl::Status SolveLmHead(InputStatistics* inputs) override;
  absl::StatusOr<Json> FinishStep() override;
  absl::Status Restore(int64_t step, const Json& state) override;

 private:
  // Sums up over the pieces of a layer.
  struct LayerTotals;

  GptqOptions Options(const PlannedTensor& tensor) const;
  // What the layers of a stage share.
  struct Inputs;

  Inputs TakeInputs(const PlannedTensor& first, InputStatistics* statistics);
  // Solves rows [begin, begin + weights.rows()), writes them, and replaces
  // them by what was written.
  absl::Status SolveRows(const PlannedTensor& tensor, int64_t begin,
                         MatrixView<float> weights, const Inputs& inputs,
                         LayerTotals* totals);
  // Makes up for gaps and prunes. Weights that are 0 stay 0.
  void Correct(const PlannedTensor& tensor, int64_t begin,
               MatrixView<float> weights, const Inputs& inputs);
  // Writes what no row has, and reports.
  absl::Status Finish(const PlannedTensor& tensor, const Inputs& inputs,
                      const LayerTotals& totals);
  bool Keeps(const PlannedTensor& tensor) const {
    return keeper_ != nullptr && &tensor != lm_head_;
  }
  // To the writer or the keeper.
  absl::Status WriteRows(const PlannedTensor& tensor, int64_t begin,
                         MatrixView<const float> before, int64_t rows,
                         const QuantizedRowBytes& solved);
  absl::StatusOr<std::string> ChecksumOf(const PlannedTensor& tensor) const;
  absl::Status RestoreLayer(const Json& layer);
  absl::Status RestoreFolds(int64_t step, const Json& checksums);
  absl::StatusOr<Json> WriteFolds();

  const Transformer& model_;
  const GptqSolverOptions options_;
  ThreadPool& pool_;
  CheckpointWriter* writer_ = nullptr;
  Keeper keeper_;
  HashMap<std::string, const PlannedTensor*> tensors_;  // by module
  const PlannedTensor* lm_head_ = nullptr;
  absl::optional<AwqFolds> folds_;
  BlockWeights norms_;  // of the block at hand, changed; with folds_
  SolverWork work_;
  std::vector<LayerReport> reports_;
  std::vector<const PlannedTensor*> step_;  // solved since FinishStep
};

}  // namespace qeff

#endif  // QEFF_QUANT_GPTQ_SOLVER_H_
