// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/estimate.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "qeff/quant/autoround_solver.h"
#include "qeff/quant/budget.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/count_parameters.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Of the peak that steps get, and bytes a second that are rounded and copied.
constexpr double kShareOfPeak = 0.5;
constexpr double kBytesPerSecond = 1e9;

constexpr double kDefaultCalibrationTokens = 16384;
constexpr double kIterations = 200;
constexpr double kIterationTokens = 8 * 256;
constexpr double kMicroBatchTokens = 4096;

double NumberOr(const RecipeStep& step, absl::string_view flag, double value) {
  double number;
  return absl::SimpleAtod(step.Flag(flag), &number) ? number : value;
}

// Sizes of the model so far.
class Model {
 public:
  Model(const Checkpoint& checkpoint, const ModelMap& map)
      : checkpoint_(checkpoint), map_(map), bytes_(checkpoint.weight_bytes()) {
    for (const BlockNames& block : map.blocks) {
      for (const LinearModule& linear : block.linears) {
        const double in = static_cast<double>(linear.in_features);
        const double out = static_cast<double>(linear.out_features);
        blocks_ += in * out;
        squares_ += in * in;
        solver_ += out * in * in;
        largest_ = std::max(largest_, in * (8 * in + 12 * out));
      }
    }
    parameters_ = static_cast<double>(CountParameters(map));
  }

  double parameters() const { return parameters_ * share_; }
  double blocks() const { return blocks_ * share_; }
  double all_parameters() const { return parameters_; }
  uint64_t bytes() const { return bytes_; }
  double hidden_size() const {
    return static_cast<double>(map_.spec.hidden_size);
  }

  // Hessians of `tokens` tokens and solving for all weights once.
  double CalibrationFlops(double tokens) const {
    return share_ * (4 * blocks_ * tokens + squares_ * tokens + 3 * solver_);
  }
  double CalibrationMemory(double tokens) const {
    return tokens * hidden_size() * sizeof(float) * 2 + largest_;
  }

  absl::Status Shrink(const RecipeStep& step) {
    const auto& spec = map_.spec;
    const double before = share_;
    share_ *= NumberOr(step, "parameters", 1);
    const auto part = [&](const char* flag, int64_t of) {
      const double kept = NumberOr(step, flag, 0);
      return kept > 0 ? kept / static_cast<double>(of) : 1;
    };
    share_ *=
        part("layers", spec.num_layers) * part("hidden_size", spec.hidden_size);
    const double ffn = part("ffn_size", spec.ffn_size);
    const double heads = part("heads", spec.num_heads);
    // About two of three weights are in feed-forward layers.
    share_ *= (2 * ffn + heads) / 3;
    bytes_ =
        static_cast<uint64_t>(static_cast<double>(bytes_) * share_ / before);
    return absl::OkStatus();
  }

  absl::Status Quantize(const std::string& scheme, const RecipeStep& step) {
    QuantizeOptions options;
    QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme(scheme));
    if (!step.Flag("lm_head").empty()) {
      QEFF_ASSIGN_OR_RETURN(options.lm_head,
                            ParseQuantScheme(step.Flag("lm_head")));
    }
    QEFF_ASSIGN_OR_RETURN(const QuantizePlan plan,
                          PlanQuantization(checkpoint_, map_, options));
    bytes_ =
        static_cast<uint64_t>(static_cast<double>(plan.BytesAfter()) * share_);
    return absl::OkStatus();
  }

  absl::Status Fit(const std::string& text) {
    QEFF_ASSIGN_OR_RETURN(const Budget budget, ParseBudget(text));
    if (budget.bytes != 0) {
      bytes_ = budget.bytes;
      return absl::OkStatus();
    }
    const double stored = static_cast<double>(checkpoint_.weight_bytes()) /
                          parameters_;  // bytes a weight
    bytes_ =
        static_cast<uint64_t>(share_ * (blocks_ * budget.bits_per_weight / 8 +
                                        (parameters_ - blocks_) * stored));
    return absl::OkStatus();
  }

 private:
  const Checkpoint& checkpoint_;
  const ModelMap& map_;
  double parameters_ = 0;
  double blocks_ = 0;   // weights of the blocks' linear layers
  double squares_ = 0;  // sum of in_features^2
  double solver_ = 0;   // sum of out_features * in_features^2
  double largest_ = 0;  // bytes that one layer takes
  double share_ = 1;    // of the parameters that are left
  uint64_t bytes_;
};

class Estimator {
 public:
  Estimator(const Checkpoint& checkpoint, const ModelMap& map,
            const EstimateOptions& options)
      : model_(checkpoint, map), options_(options) {}

  absl::StatusOr<StepEstimate> Next(const RecipeStep& step) {
    switch (step.kind) {
      case StepKind::kPrune:
        QEFF_RETURN_IF_ERROR(model_.Shrink(step));
        return Calibrated(step, step.Flag("scheme"));
      case StepKind::kQuantize:
        return Calibrated(step, step.Flag("scheme"));
      case StepKind::kDistill:
        return Distilled(step);
      case StepKind::kEvaluate: {
        double tokens = static_cast<double>(options_.text_tokens);
        const double most = NumberOr(step, "max_tokens", 0);
        if (most > 0) tokens = std::min(tokens, most);
        return Took(
            2 * tokens * (model_.parameters() + model_.all_parameters()),
            model_.hidden_size() * sizeof(float) * 4096, 0);
      }
      case StepKind::kExport:
      case StepKind::kCompile:
        return Copied(model_.bytes());
    }
    return StepEstimate();
  }

 private:
  StepEstimate Took(double flops, double memory, uint64_t bytes) const {
    StepEstimate estimate;
    if (options_.peak_flops > 0) {
      estimate.seconds = flops / (options_.peak_flops * kShareOfPeak);
    }
    estimate.memory_bytes = static_cast<uint64_t>(memory);
    estimate.bytes = bytes;
    return estimate;
  }

  static StepEstimate Copied(uint64_t bytes) {
    StepEstimate estimate;
    estimate.seconds = static_cast<double>(bytes) / kBytesPerSecond;
    estimate.bytes = bytes;
    return estimate;
  }

  absl::StatusOr<StepEstimate> Calibrated(const RecipeStep& step,
                                          const std::string& scheme) {
    const uint64_t before = model_.bytes();
    const std::string budget = step.Flag("budget");
    int bits = 16;
    if (!budget.empty()) {
      QEFF_RETURN_IF_ERROR(model_.Fit(budget));
    } else if (!scheme.empty()) {
      QEFF_RETURN_IF_ERROR(model_.Quantize(scheme, step));
      QEFF_ASSIGN_OR_RETURN(const QuantScheme parsed, ParseQuantScheme(scheme));
      bits = parsed.bits;
    }
    if (!step.TakesCalibration()) {
      StepEstimate estimate = Copied(before);
      estimate.bytes = model_.bytes();
      return estimate;
    }
    const double tokens = std::min(
        NumberOr(step, "calibration_tokens", kDefaultCalibrationTokens),
        static_cast<double>(options_.calibration_tokens));
    double flops = model_.CalibrationFlops(tokens);
    const std::string algorithm = step.Flag("algorithm");
    if (absl::StrContains(algorithm, "autoround") ||
        (absl::StrContains(algorithm, "best") && bits <= kMostBitsForTuning &&
         model_.blocks() <= kMostWeightsForTuning)) {
      flops += NumberOr(step, "iterations", kIterations) * kIterationTokens *
               6 * model_.blocks();
    }
    return Took(flops, model_.CalibrationMemory(tokens), model_.bytes());
  }

  absl::StatusOr<StepEstimate> Distilled(const RecipeStep& step) {
    for (const absl::string_view part :
         absl::StrSplit(step.Flag("student_init"), ',')) {
      // prune:layers=3,parameters=0.8: as flags of prune.
      RecipeStep sizes;
      sizes.flags.push_back(
          absl::StrCat("--", absl::StripPrefix(part, "prune:")));
      QEFF_RETURN_IF_ERROR(model_.Shrink(sizes));
    }
    const std::string scheme = step.Flag("scheme");
    if (!scheme.empty()) QEFF_RETURN_IF_ERROR(model_.Quantize(scheme, step));
    const double tokens = NumberOr(step, "steps", 1000) *
                          NumberOr(step, "batch_size", 16) *
                          NumberOr(step, "sequence_length", 256);
    const double student = model_.parameters();
    const double teacher = model_.all_parameters();
    // Weights, gradients and two moments; the teacher; what a block keeps.
    const double memory =
        sizeof(float) * (4 * student + teacher) +
        kMicroBatchTokens * model_.hidden_size() * sizeof(float) * 160;
    return Took(tokens * (6 * student + 2 * teacher), memory, model_.bytes());
  }

  Model model_;
  const EstimateOptions& options_;
};

}  // namespace

absl::StatusOr<std::vector<StepEstimate>> EstimateSteps(
    absl::Span<const RecipeStep> steps, const Checkpoint& checkpoint,
    const ModelMap& map, const EstimateOptions& options) {
  Estimator estimator(checkpoint, map, options);
  std::vector<StepEstimate> estimates;
  for (const RecipeStep& step : steps) {
    QEFF_ASSIGN_OR_RETURN(const StepEstimate estimate, estimator.Next(step));
    estimates.push_back(estimate);
  }
  return estimates;
}

}  // namespace qeff
