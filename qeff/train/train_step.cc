// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/train_step.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/eval/kl_divergence.h"
#include "qeff/train/squared_norm.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Sums of -ln p(label).
class HeldOut : public ModelLoss {
 public:
  HeldOut(const TokenBatch& batch, ThreadPool& pool)
      : batch_(batch), pool_(pool), losses_(batch.labels.size()) {}

  void AtLogits(int64_t row, MatrixView<float> logits) override {
    pool_.ParallelFor(logits.rows(), 1, [&](int64_t r, int64_t end, int) {
      for (; r < end; ++r) {
        const size_t at = static_cast<size_t>(row + r);
        const int32_t label = batch_.labels[at];
        if (label == TokenBatch::kNoLabel) continue;
        const LogSoftmax p(absl::MakeConstSpan(
            logits.row(r), static_cast<size_t>(logits.cols())));
        losses_[at] = -p.LogProbability(logits.row(r)[label]);
      }
    });
  }

  double Sum() const {
    double sum = 0;
    for (const double loss : losses_) sum += loss;
    return sum;
  }

 private:
  const TokenBatch& batch_;
  ThreadPool& pool_;
  std::vector<double> losses_;  // of the rows
};

// What micro_batch_size is for 0: more than these tokens are no faster.
int64_t MicroBatchSize(const TrainStepOptions& options, int64_t ranks) {
  constexpr int64_t kTokens = 4096;
  if (options.micro_batch_size > 0) return options.micro_batch_size;
  const int64_t share = options.batch_size / ranks;
  int64_t size =
      std::min(share, std::max<int64_t>(kTokens / options.sequence_length, 1));
  while (share % size != 0) --size;
  return size;
}

absl::Status CheckSizes(const TransformerSpec& spec,
                        const TrainStepOptions& options, int64_t ranks) {
  if (options.micro_batch_size < 0) {
    return InvalidInputError("--micro_batch_size: expected at least 0, found ",
                             options.micro_batch_size);
  }
  const int64_t unit = ranks * std::max<int64_t>(options.micro_batch_size, 1);
  if (options.batch_size < 1 || options.batch_size % unit != 0) {
    return InvalidInputError(
        "--batch_size: expected a multiple of ", unit, " (", ranks,
        " processes, --micro_batch_size=", options.micro_batch_size,
        "), found ", options.batch_size);
  }
  if (options.sequence_length < 1) {
    return InvalidInputError("--sequence_length: expected at least 1, found ",
                             options.sequence_length);
  }
  if (options.sequence_length > spec.max_positions) {
    return InvalidInputError("--sequence_length: expected at most ",
                             spec.max_positions,
                             ", the positions that the model was made for, "
                             "found ",
                             options.sequence_length);
  }
  if (!(options.clip_norm >= 0) || !std::isfinite(options.clip_norm)) {
    return InvalidInputError("--clip_norm: expected a number of at least 0, ",
                             "found ", options.clip_norm);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainStep>> TrainStep::Create(
    const TransformerSpec& spec, const TrainStepOptions& options,
    TrainableWeights* weights, Objective* objective, BatchSource* data,
    GradientReducer* reducer, ThreadPool* pool) {
  QEFF_RETURN_IF_ERROR(
      CheckSizes(spec, options, reducer == nullptr ? 1 : reducer->size()));
  QEFF_RETURN_IF_ERROR(CheckSchedule(options.schedule));
  std::unique_ptr<TrainStep> result(
      new TrainStep(spec, options, weights, objective, data, reducer, pool));
  std::vector<ParameterShape> shapes;
  for (const Parameter& parameter : result->parameters_) {
    shapes.push_back({parameter.name, parameter.rows, parameter.cols,
                      /*decays=*/parameter.matrix});
  }
  QEFF_ASSIGN_OR_RETURN(result->optimizer_,
                        Optimizer::Create(options.optimizer, shapes));
  return result;
}

TrainStep::TrainStep(const TransformerSpec& spec,
                     const TrainStepOptions& options, TrainableWeights* weights,
                     Objective* objective, BatchSource* data,
                     GradientReducer* reducer, ThreadPool* pool)
    : spec_(spec),
      options_(options),
      micro_batch_size_(
          MicroBatchSize(options, reducer == nullptr ? 1 : reducer->size())),
      weights_(*weights),
      objective_(*objective),
      data_(*data),
      reducer_(reducer),
      pool_(*pool),
      check_(options.check, reducer),
      model_(spec, options.sequence_length, GradientOptions(), pool),
      parameters_(weights->parameters()),
      gradients_(weights->gradients()) {
  for (const Parameter& parameter : objective->parameters()) {
    parameters_.push_back(parameter);
  }
  for (const Parameter& gradient : objective->gradients()) {
    gradients_.push_back(gradient);
  }
  QEFF_CHECK(parameters_.size() == gradients_.size());
}

ModelGradientOptions TrainStep::GradientOptions() {
  ModelGradientOptions result;
  result.recompute = options_.recompute;
  result.check = [this] { return check_.Check(); };
  return result;
}

absl::StatusOr<StepReport> TrainStep::Run(int64_t step) {
  StepReport report;
  report.learning_rate = LearningRate(options_.schedule, step);
  QEFF_RETURN_IF_ERROR(Gradients(step, &report));
  QEFF_RETURN_IF_ERROR(SumTerms(&report));
  weights_.BackProject(pool_);
  Measure(&report);
  if (report.bad.empty()) Apply(report);
  return report;
}

absl::Status TrainStep::Gradients(int64_t step, StepReport* report) {
  weights_.Project(pool_);
  weights_.ZeroGradient(pool_);
  QEFF_RETURN_IF_ERROR(data_.BeginStep(step, weights_.weights(), &check_));
  for (const Parameter& gradient : objective_.gradients()) {
    std::fill(gradient.values.begin(), gradient.values.end(), 0.0f);
  }
  // What the whole step counts is known before any of it runs: the sum of its
  // parts has the right mean.
  std::vector<TokenBatch> own;
  TokenBatch all;
  const int64_t ranks = reducer_ == nullptr ? 1 : reducer_->size();
  const int64_t rank = reducer_ == nullptr ? 0 : reducer_->rank();
  const int64_t share = options_.batch_size / ranks;
  for (int64_t i = 0; i < options_.batch_size; ++i) {
    const int64_t index = step * options_.batch_size + i;
    QEFF_RETURN_IF_ERROR(data_.Get(index, &all));
    if (i / share != rank) continue;
    if (i % micro_batch_size_ == 0) own.emplace_back();
    QEFF_RETURN_IF_ERROR(data_.Get(index, &own.back()));
  }
  report->counted = all.counted;
  report->tokens = static_cast<int64_t>(all.ids.size());
  const double scale =
      1.0 / static_cast<double>(std::max<int64_t>(all.counted, 1));
  parts_begun_ = 0;
  const absl::Status status = AddGradients(own, scale);
  // The others learn of nothing else.
  if (!status.ok() && check_.Check().ok()) return status;
  return reducer_ == nullptr ? status : FinishReducing();
}

absl::Status TrainStep::AddGradients(const std::vector<TokenBatch>& batches,
                                     double scale) {
  absl::Status status;
  for (const TokenBatch& batch : batches) {
    QEFF_RETURN_IF_ERROR(objective_.Begin(batch, scale));
    const bool reduces = reducer_ != nullptr && &batch == &batches.back();
    QEFF_RETURN_IF_ERROR(model_.Run(weights_.weights(), batch,
                                    objective_.loss(),
                                    weights_.weight_gradient(), [&](int64_t) {
                                      if (reduces) status.Update(ReduceNext());
                                    }));
    QEFF_RETURN_IF_ERROR(status);
    QEFF_RETURN_IF_ERROR(objective_.End());
    if (reduces) QEFF_RETURN_IF_ERROR(ReduceNext());
  }
  return absl::OkStatus();
}

absl::Status TrainStep::ReduceNext() {
  // In the order of ModelGradient::Run: num_layers, ..., 0, -1.
  const int64_t part = spec_.num_layers - parts_begun_;
  ++parts_begun_;
  if (part < -1) {
    for (const Parameter& gradient : objective_.gradients()) {
      QEFF_RETURN_IF_ERROR(reducer_->Begin(gradient.values));
    }
    return absl::OkStatus();
  }
  for (const Parameter& gradient : weights_.weight_gradients()) {
    int64_t belongs = gradient.block;
    if (belongs < 0) {
      // A tied embedding is complete at the very end.
      const bool head = gradient.name == "lm_head" ||
                        gradient.name.compare(0, 10, "final_norm") == 0;
      belongs = head ? spec_.num_layers : -1;
    }
    if (belongs != part) continue;
    QEFF_RETURN_IF_ERROR(reducer_->Begin(gradient.values));
  }
  return absl::OkStatus();
}

// All ranks come here, done or stopped. A sum that one of them has begun ends
// only when all have: who stopped before begins it too, whatever the values.
absl::Status TrainStep::FinishReducing() {
  int64_t most[2] = {parts_begun_, check_.stopped() ? 1 : 0};
  QEFF_RETURN_IF_ERROR(reducer_->Max(absl::MakeSpan(most)));
  while (parts_begun_ < most[0]) QEFF_RETURN_IF_ERROR(ReduceNext());
  QEFF_RETURN_IF_ERROR(reducer_->Wait());
  return most[1] == 0 ? absl::OkStatus() : check_.Meet();
}

absl::Status TrainStep::SumTerms(StepReport* report) {
  report->terms = objective_.TakeTerms();
  std::vector<double> sums;
  for (const LossTerm& term : report->terms) sums.push_back(term.sum);
  if (reducer_ != nullptr) {
    QEFF_RETURN_IF_ERROR(reducer_->Sum(absl::MakeSpan(sums)));
  }
  const double counted =
      static_cast<double>(std::max<int64_t>(report->counted, 1));
  for (size_t i = 0; i < sums.size(); ++i) {
    report->terms[i].sum = sums[i] / counted;
  }
  return absl::OkStatus();
}

void TrainStep::Measure(StepReport* report) {
  double sum = 0;
  for (const Parameter& gradient : gradients_) {
    sum += SquaredNorm(gradient.values, pool_);
  }
  report->gradient_norm = std::sqrt(sum);
  if (!std::isfinite(sum)) report->bad = FirstBad(*report);
  for (const LossTerm& term : report->terms) {
    if (!std::isfinite(term.sum) && report->bad.empty()) {
      report->bad = absl::StrCat("the loss (", term.name, ")");
    }
  }
}

std::string TrainStep::FirstBad(const StepReport& report) {
  const std::string where = model_.FirstBadOutput();
  if (!where.empty()) return where;
  for (const LossTerm& term : report.terms) {
    if (!std::isfinite(term.sum)) {
      return absl::StrCat("the loss (", term.name, ")");
    }
  }
  // The way back begins at the end.
  for (size_t i = gradients_.size(); i-- > 0;) {
    if (!std::isfinite(SquaredNorm(gradients_[i].values, pool_))) {
      return absl::StrCat("the gradient of ", gradients_[i].name);
    }
  }
  return "the norm of the gradient";
}

void TrainStep::Apply(const StepReport& report) {
  float scale = 1;
  if (options_.clip_norm > 0 && report.gradient_norm > options_.clip_norm) {
    scale = static_cast<float>(options_.clip_norm / report.gradient_norm);
  }
  ++applied_steps_;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    optimizer_->Step(i, applied_steps_, report.learning_rate, scale,
                     gradients_[i].values, parameters_[i].values, pool_);
  }
}

absl::StatusOr<double> TrainStep::HeldOutLoss(
    const std::vector<TokenBatch>& batches) {
  weights_.Project(pool_);
  std::vector<double> sums(3);  // of losses, of tokens, of ranks that stop
  const size_t ranks = reducer_ == nullptr ? 1 : reducer_->size();
  size_t i = reducer_ == nullptr ? 0 : reducer_->rank();
  for (; i < batches.size(); i += ranks) {
    HeldOut loss(batches[i], pool_);
    if (!model_.Evaluate(weights_.weights(), batches[i], loss).ok()) {
      sums[2] = 1;
      break;
    }
    sums[0] += loss.Sum();
    sums[1] += static_cast<double>(batches[i].counted);
  }
  if (reducer_ != nullptr) {
    QEFF_RETURN_IF_ERROR(reducer_->Sum(absl::MakeSpan(sums)));
  }
  if (sums[2] > 0) return check_.Meet();
  return sums[1] == 0 ? 0 : sums[0] / sums[1];
}

std::vector<std::pair<std::string, absl::Span<float>>> TrainStep::State() {
  std::vector<std::pair<std::string, absl::Span<float>>> state;
  for (const Parameter& parameter : parameters_) {
    state.emplace_back(absl::StrCat("parameter.", parameter.name),
                       parameter.values);
  }
  for (auto& part : optimizer_->State()) {
    state.emplace_back(absl::StrCat("optimizer.", part.first), part.second);
  }
  return state;
}

}  // namespace qeff
