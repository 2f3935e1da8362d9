// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/calibrated_quantize.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/quant/autoround_solver.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/util/json.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Of the description.
constexpr char kAutoround[] = "autoround";

// Changes with this code's results: work of another version is not resumed.
constexpr int kJournalVersion = 5;

std::string PlanFingerprint(const QuantizePlan& plan) {
  std::string text = plan.config.dump();
  for (const PlannedTensor& tensor : plan.tensors) {
    absl::StrAppend(&text, "\n", tensor.name, " ",
                    static_cast<int>(tensor.action), " ",
                    QuantSchemeName(tensor.scheme), tensor.scheme.symmetric,
                    ScaleRuleName(tensor.scheme.scale_rule));
  }
  return Fingerprint(text);
}

std::string FoldsName(const absl::optional<FoldSearch>& folds) {
  if (!folds.has_value()) return "none";
  return *folds == FoldSearch::kAwq ? "awq" : "smoothquant";
}

// The solvers of a run, and what it does with them.
class Work {
 public:
  Work(const Transformer& model, const QuantizePlan& plan,
       const TokenSample& sample, const CalibratedQuantizeOptions& options,
       ThreadPool& pool)
      : model_(model),
        plan_(plan),
        sample_(sample),
        options_(options),
        solver_(model, plan, options.solver, pool) {
    if (options.autoround_iterations > 0) {
      BlockTunerOptions tuner;
      tuner.iterations = options.autoround_iterations;
      tuner.solved = options.solver.propagate;
      autoround_.emplace(model, tuner, &solver_, pool);
    }
  }

  // Errors: what the arguments alone decide about.
  absl::StatusOr<CalibratedWork> Describe() {
    CalibratedWork work;
    work.solver = &solver_;
    work.set_writer = [this](CheckpointWriter* writer) {
      solver_.set_writer(writer);
      if (autoround_.has_value()) autoround_->set_writer(writer);
    };
    work.lm_head = solver_.ChangesLmHead();
    work.solver_bytes = solver_.MemoryBytes();
    work.solver_flops = solver_.Flops();
    if (autoround_.has_value()) {
      QEFF_RETURN_IF_ERROR(CheckAutoround());
      work.solver = &*autoround_;
      work.solver_bytes = autoround_->MemoryBytes(sample_);
      work.tune_flops = autoround_->Flops(sample_);
    }
    work.description = Description();
    work.tensors = OutputTensors(plan_);
    work.copied = Copied();
    work.config = plan_.config;
    return work;
  }

  void AddReports(CalibratedQuantizeResult* result) const {
    result->layers = solver_.reports();
    result->solver = solver_.work();
    if (autoround_.has_value()) result->blocks = autoround_->reports();
  }

 private:
  absl::Status CheckAutoround() const {
    if (options_.allow_bad_inputs) {
      return InvalidInputError("autoround needs inputs that are finite");
    }
    const std::string reason = WhyNotTuned(model_.map(), plan_);
    if (!reason.empty()) return InvalidInputError(reason);
    return absl::OkStatus();
  }

  Json Description() const {
    Json description{
        {"version", kJournalVersion},
        {"plan", PlanFingerprint(plan_)},
        {"folds", FoldsName(options_.solver.folds)},
        {"observer", std::string(ObserverName(options_.solver.observer))},
        {"propagate", options_.solver.propagate},
        {"damping", options_.solver.damping},
        {kAutoround, options_.autoround_iterations}};
    if (options_.solver.pruner.has_value()) {
      description["pruner"] = options_.solver.pruner->name;
    }
    if (options_.allow_bad_inputs) description["skip_bad_inputs"] = true;
    return description;
  }

  std::vector<std::string> Copied() const {
    std::vector<std::string> names;
    for (const PlannedTensor& tensor : plan_.tensors) {
      if (tensor.action != PlannedTensor::Action::kKeep &&
          tensor.action != PlannedTensor::Action::kAdd) {
        continue;
      }
      if (autoround_.has_value() ? autoround_->Writes(tensor.name)
                                 : solver_.Writes(tensor.name)) {
        continue;
      }
      names.push_back(tensor.name);
    }
    return names;
  }

  const Transformer& model_;
  const QuantizePlan& plan_;
  const TokenSample& sample_;
  const CalibratedQuantizeOptions& options_;
  GptqSolver solver_;
  absl::optional<AutoRoundSolver> autoround_;
};

}  // namespace

absl::StatusOr<double> EstimateCalibrated(
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const CalibratedQuantizeOptions& options,
    ThreadPool& pool) {
  Work work(model, plan, sample, options, pool);
  QEFF_ASSIGN_OR_RETURN(const CalibratedWork described, work.Describe());
  QEFF_ASSIGN_OR_RETURN(
      const RunEstimate estimate,
      EstimateRun(model, sample, described, options.memory_limit_bytes, pool));
  return estimate.seconds;
}

absl::optional<bool> UnfinishedRunTunes(const std::string& output) {
  const Json description = UnfinishedDescription(output);
  const auto found = description.find(kAutoround);
  if (found == description.end() || !found->is_number_integer()) {
    return absl::nullopt;
  }
  return *found != 0;
}

absl::StatusOr<CalibratedQuantizeResult> QuantizeCalibrated(
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const std::string& output,
    const CalibratedQuantizeOptions& options, ThreadPool& pool) {
  return GuardMemory([&]() -> absl::StatusOr<CalibratedQuantizeResult> {
    Work work(model, plan, sample, options, pool);
    QEFF_ASSIGN_OR_RETURN(const CalibratedWork described, work.Describe());
    CalibratedQuantizeResult result;
    QEFF_ASSIGN_OR_RETURN(
        static_cast<CalibratedRunResult&>(result),
        RunCalibrated(model, sample, described, output, options, pool));
    if (!result.was_complete) work.AddReports(&result);
    return result;
  });
}

}  // namespace qeff
