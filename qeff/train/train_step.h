// SPDX-License-Identifier: Apache-2.0
//
// One step of training: gradients over a batch, and what an optimizer makes of
// them. The loop around it, with its files, is train_run.h.

#ifndef QEFF_TRAIN_TRAIN_STEP_H_
#define QEFF_TRAIN_TRAIN_STEP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/train/batch_source.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/train/model_gradient.h"
#include "qeff/train/objective.h"
#include "qeff/train/optimizer.h"
#include "qeff/train/schedule.h"
#include "qeff/train/shared_check.h"
#include "qeff/train/trainable_weights.h"

namespace qeff {

struct TrainStepOptions {
  int64_t batch_size = 16;  // sequences of a step, of all ranks together
  // Of these, how many run at a time; 0: as many as divide those of a rank and
  // have 4096 tokens or less together.
  int64_t micro_batch_size = 0;
  int64_t sequence_length = 256;
  ScheduleOptions schedule;
  OptimizerOptions optimizer;
  double clip_norm = 1;    // of the gradient's L2 norm; 0: none
  bool recompute = false;  // see ModelGradientOptions
  // Called often; an error ends Run and HeldOutLoss, of all ranks, which
  // return it. A step that it ends has changed nothing. May be null.
  std::function<absl::Status()> check;
};

// What happened in a step.
struct StepReport {
  // Means over the counted tokens of all ranks. The first is what is minimized.
  std::vector<LossTerm> terms;
  int64_t counted = 0;       // tokens, of all ranks
  int64_t tokens = 0;        // inputs, of all ranks
  double gradient_norm = 0;  // before it is clipped
  double learning_rate = 0;
  // Where a value first was not finite; the step then changed nothing. Empty
  // otherwise.
  std::string bad;
};

// Not thread-safe. Methods throw std::bad_alloc. The same bits for any number
// of threads.
class TrainStep {
 public:
  // All are borrowed; `reducer` may be null for one process. Errors:
  // kInvalidArgument for sizes below 1, a batch_size that is no multiple of
  // the ranks (or a rank's share none of micro_batch_size), sequences longer
  // than learned positions reach; those of CheckSchedule and Optimizer::Create.
  static absl::StatusOr<std::unique_ptr<TrainStep>> Create(
      const TransformerSpec& spec, const TrainStepOptions& options,
      TrainableWeights* weights, Objective* objective, BatchSource* data,
      GradientReducer* reducer, ThreadPool* pool);

  // Takes step `step`, from 0, on sequences [step * batch_size,
  // (step + 1) * batch_size) of the data. Skipped steps (StepReport::bad) do
  // not count for the optimizer. Errors: those of the objective, the reducer
  // and the options' check.
  absl::StatusOr<StepReport> Run(int64_t step);

  // Mean of -ln p(next token) over all counted tokens of `batches`, with the
  // weights as they are: the held-out loss. Each rank runs its share of them,
  // the same on every rank. Errors: those of the reducer and the options'
  // check.
  absl::StatusOr<double> HeldOutLoss(const std::vector<TokenBatch>& batches);

  // Everything that later steps depend on, by name, but for applied_steps:
  // parameters, those of the objective, state of the optimizer.
  std::vector<std::pair<std::string, absl::Span<float>>> State();

  // Whether the options' check, of any rank, has ended Run or HeldOutLoss.
  bool stopped() const { return check_.stopped(); }

  // Null for one process.
  GradientReducer* reducer() const { return reducer_; }

  // Steps that the optimizer has taken. To be set on resume.
  int64_t applied_steps() const { return applied_steps_; }
  void set_applied_steps(int64_t steps) { applied_steps_ = steps; }

 private:
  TrainStep(const TransformerSpec& spec, const TrainStepOptions& options,
            TrainableWeights* weights, Objective* objective, BatchSource* data,
            GradientReducer* reducer, ThreadPool* pool);

  ModelGradientOptions GradientOptions();
  absl::Status Gradients(int64_t step, StepReport* report);
  // Adds the gradients over `batches`, of which the last is reduced part by
  // part.
  absl::Status AddGradients(const std::vector<TokenBatch>& batches,
                            double scale);
  // Begins to sum the next part of the gradients.
  absl::Status ReduceNext();
  absl::Status FinishReducing();
  absl::Status SumTerms(StepReport* report);
  // Sets gradient_norm, and bad where it is not finite.
  void Measure(StepReport* report);
  void Apply(const StepReport& report);
  std::string FirstBad(const StepReport& report);

  const TransformerSpec& spec_;
  const TrainStepOptions options_;
  const int64_t micro_batch_size_;
  TrainableWeights& weights_;
  Objective& objective_;
  BatchSource& data_;
  GradientReducer* const reducer_;
  ThreadPool& pool_;
  SharedCheck check_;
  ModelGradient model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<Parameter> parameters_, gradients_;  // the objective's too
  // Of the step at hand: the parts of ModelGradient::Run in their order, and
  // the objective's.
  int64_t parts_begun_ = 0;
  int64_t applied_steps_ = 0;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_TRAIN_STEP_H_
