// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/calibrated_quantize.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "qeff/calibration/journal.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/autoround_solver.h"
#include "qeff/quant/model_fingerprint.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/transformer/memory_guard.h"
#include "qeff/util/json.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Of a kept tensor that are copied at a time.
constexpr int64_t kCopyBytes = 4 << 20;

// Of the description.
constexpr char kAutoround[] = "autoround";

constexpr size_t kMostJournalBytes = size_t{64} << 20;

// Changes with this code's results: work of another version is not resumed.
constexpr int kJournalVersion = 4;

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

std::string SampleFingerprint(const TokenSample& sample) {
  std::string text;
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    for (const int32_t id : sequence) absl::StrAppend(&text, id, " ");
    absl::StrAppend(&text, "\n");
  }
  return Fingerprint(text);
}

// A sample with fewer tokens than a layer has inputs says nothing about some
// of their combinations.
std::string SampleWarning(const QuantizePlan& plan, const TokenSample& sample) {
  constexpr int64_t kTokensOfInput = 4;
  const PlannedTensor* widest = nullptr;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.quantized() &&
        (widest == nullptr || tensor.cols > widest->cols)) {
      widest = &tensor;
    }
  }
  const int64_t wanted = kTokensOfInput * widest->cols;
  if (sample.tokens >= wanted) return "";
  return absl::StrCat("the calibration text gives ", sample.tokens, " tokens; ",
                      widest->module, " has ", widest->cols,
                      " inputs, for which ", wanted, " tokens are needed");
}

// Multiplications and additions in float32 a second, as fast as they go at
// present: other work of a moment does not count.
double MeasureFlops(ThreadPool& pool) {
  constexpr int64_t kSize = 384;
  Matrix<float> a(kSize, kSize), b(kSize, kSize), c(kSize, kSize);
  SgemmArgs args;
  args.a = a.view();
  args.b = b.view();
  args.c = c.view();
  constexpr double kSeconds = 0.05;
  double best = 1, spent = 0;
  while (spent < kSeconds) {
    const absl::Time start = absl::Now();
    Sgemm(args, pool);
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    best = std::min(best, seconds);
    spent += std::max(seconds, kSeconds / 100);
  }
  return 2.0 * kSize * kSize * kSize / std::max(best, 1e-6);
}

std::string FoldsName(const absl::optional<FoldSearch>& folds) {
  if (!folds.has_value()) return "none";
  return *folds == FoldSearch::kAwq ? "awq" : "smoothquant";
}

// `status` with where its work is kept.
absl::Status Kept(const absl::Status& status, const PartialFolder& folder,
                  size_t steps) {
  absl::Status result(status.code(),
                      absl::StrCat(status.message(), "; what is finished (",
                                   steps, " steps) is kept in ", folder.path(),
                                   ": the same command with --resume goes on"));
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    result.SetPayload(type, payload);
  });
  return result;
}

// One run. Members are in the order that they are made.
class Run {
 public:
  Run(const Transformer& model, const QuantizePlan& plan,
      const TokenSample& sample, const std::string& output,
      const CalibratedQuantizeOptions& options, ThreadPool& pool)
      : model_(model),
        plan_(plan),
        sample_(sample),
        output_(output),
        options_(options),
        pool_(pool),
        solver_(model, plan, options.solver, pool) {
    if (options.autoround_iterations > 0) {
      BlockTunerOptions tuner;
      tuner.iterations = options.autoround_iterations;
      tuner.solved = options.solver.propagate;
      autoround_.emplace(model, tuner, &solver_, pool);
    }
  }

  // Everything that the arguments alone decide about.
  absl::Status Plan() {
    if (autoround_.has_value()) {
      if (options_.skip_bad_inputs) {
        return InvalidInputError("autoround needs inputs that are finite");
      }
      const std::string reason = WhyNotTuned(model_.map(), plan_);
      if (!reason.empty()) return InvalidInputError(reason);
    }
    QEFF_ASSIGN_OR_RETURN(
        result_.estimate.walk,
        PlanWalk(model_, sample_, Solver(), solver_.ChangesLmHead(),
                 autoround_.has_value() ? autoround_->MemoryBytes(sample_)
                                        : solver_.MemoryBytes(),
                 options_.memory_limit_bytes));
    CalibratedQuantizeEstimate& estimate = result_.estimate;
    estimate.solver_flops = solver_.Flops();
    if (autoround_.has_value()) {
      estimate.tune_flops = autoround_->Flops(sample_);
    }
    return absl::OkStatus();
  }

  // Of a run from its beginning, after Plan.
  double Seconds() const {
    const CalibratedQuantizeEstimate& estimate = result_.estimate;
    // Products reach most of what is measured; the rest of the work is added.
    constexpr double kOverhead = 1.25;
    return kOverhead *
           (estimate.walk.forward_flops + estimate.walk.hessian_flops +
            estimate.solver_flops + estimate.tune_flops) /
           MeasureFlops(pool_);
  }

  absl::StatusOr<CalibratedQuantizeResult> Go() {
    QEFF_RETURN_IF_ERROR(Plan());
    QEFF_ASSIGN_OR_RETURN(std::unique_ptr<PartialFolder> folder,
                          PartialFolder::Open(output_, options_.unfinished));
    folder_ = std::move(folder);
    if (folder_->was_complete()) {
      result_.was_complete = true;
      return std::move(result_);
    }
    const absl::Status status = Work();
    if (status.ok()) return std::move(result_);
    const size_t steps = journal_ == nullptr ? 0 : journal_->steps().size();
    writer_.reset();
    if (steps > 0) return Kept(status, *folder_, steps);
    // Another run's journal is not ours to remove.
    if (journal_ != nullptr) folder_->Discard();
    return status;
  }

 private:
  absl::Status Work() {
    QEFF_ASSIGN_OR_RETURN(const Json description, Describe());
    QEFF_ASSIGN_OR_RETURN(
        journal_, Journal::Open(folder_->path() + "/journal", description));
    QEFF_RETURN_IF_ERROR(
        CheckFreeSpace(folder_->path(), result_.estimate.walk.scratch_bytes));
    QEFF_ASSIGN_OR_RETURN(
        writer_, CheckpointWriter::CreateIn(folder_, OutputTensors(plan_),
                                            options_.writer));
    solver_.set_writer(writer_.get());
    if (autoround_.has_value()) autoround_->set_writer(writer_.get());
    Estimate();
    if (options_.planned) options_.planned(result_.estimate);

    WalkOptions walk;
    walk.work_folder = folder_->path();
    walk.check = options_.check;
    walk.progress = options_.progress;
    walk.allow_bad_inputs = options_.skip_bad_inputs;
    QEFF_ASSIGN_OR_RETURN(result_.times,
                          WalkBlocks(model_, sample_, result_.estimate.walk,
                                     journal_.get(), &Solver(), walk, pool_));
    QEFF_RETURN_IF_ERROR(CopyKept());
    result_.layers = solver_.reports();
    result_.solver = solver_.work();
    if (autoround_.has_value()) result_.blocks = autoround_->reports();
    const Checkpoint& checkpoint = model_.checkpoint();
    QEFF_ASSIGN_OR_RETURN(const auto files, ReadOtherFiles(checkpoint));
    QEFF_RETURN_IF_ERROR(checkpoint.VerifyUnchanged());
    return writer_->Commit(plan_.config, files);
  }

  LayerSolver& Solver() {
    if (autoround_.has_value()) return *autoround_;
    return solver_;
  }

  absl::StatusOr<Json> Describe() const {
    QEFF_ASSIGN_OR_RETURN(const std::string model,
                          ModelFingerprint(model_.checkpoint()));
    Json description{
        {"version", kJournalVersion},
        {"model", model},
        {"plan", PlanFingerprint(plan_)},
        {"tokens", sample_.tokens},
        {"sample", SampleFingerprint(sample_)},
        {"folds", FoldsName(options_.solver.folds)},
        {"observer", std::string(ObserverName(options_.solver.observer))},
        {"propagate", options_.solver.propagate},
        {"damping", options_.solver.damping},
        {kAutoround, options_.autoround_iterations}};
    if (options_.skip_bad_inputs) description["skip_bad_inputs"] = true;
    return description;
  }

  void Estimate() {
    CalibratedQuantizeEstimate& estimate = result_.estimate;
    estimate.steps_done = static_cast<int64_t>(journal_->steps().size());
    estimate.warning = SampleWarning(plan_, sample_);
    const double steps = static_cast<double>(model_.spec().num_layers +
                                             (estimate.walk.lm_head ? 1 : 0));
    const double left = 1 - static_cast<double>(estimate.steps_done) / steps;
    estimate.seconds = left * Seconds();
  }

  absl::Status CopyKept() {
    for (const PlannedTensor& tensor : plan_.tensors) {
      if (tensor.action != PlannedTensor::Action::kKeep &&
          tensor.action != PlannedTensor::Action::kAdd) {
        continue;
      }
      if (autoround_.has_value() ? autoround_->Writes(tensor.name)
                                 : solver_.Writes(tensor.name)) {
        continue;
      }
      const int64_t bytes = static_cast<int64_t>(tensor.bytes_before);
      for (int64_t begin = 0; begin < bytes; begin += kCopyBytes) {
        if (options_.check) QEFF_RETURN_IF_ERROR(options_.check());
        QEFF_RETURN_IF_ERROR(CopyTensorBytes(
            model_.checkpoint(), tensor.name, begin,
            std::min(kCopyBytes, bytes - begin),
            [this](const std::string& name, uint64_t offset_bytes,
                   absl::Span<const uint8_t> part) {
              return writer_->Write(name, offset_bytes, part);
            }));
      }
    }
    return absl::OkStatus();
  }

  const Transformer& model_;
  const QuantizePlan& plan_;
  const TokenSample& sample_;
  const std::string& output_;
  const CalibratedQuantizeOptions& options_;
  ThreadPool& pool_;
  GptqSolver solver_;
  absl::optional<AutoRoundSolver> autoround_;
  std::shared_ptr<PartialFolder> folder_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<CheckpointWriter> writer_;
  CalibratedQuantizeResult result_;
};

}  // namespace

absl::StatusOr<double> EstimateCalibrated(
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const CalibratedQuantizeOptions& options,
    ThreadPool& pool) {
  const std::string no_output;
  Run run(model, plan, sample, no_output, options, pool);
  QEFF_RETURN_IF_ERROR(run.Plan());
  return run.Seconds();
}

absl::optional<bool> UnfinishedRunTunes(const std::string& output) {
  const auto text =
      ReadFileToString(output + ".partial/journal", kMostJournalBytes);
  if (!text.ok()) return absl::nullopt;
  const auto description =
      ParseJson(text->substr(0, text->find('\n')), "journal");
  if (!description.ok() || !description->is_object()) return absl::nullopt;
  const auto found = description->find(kAutoround);
  if (found == description->end() || !found->is_number_integer()) {
    return absl::nullopt;
  }
  return *found != 0;
}

absl::StatusOr<CalibratedQuantizeResult> QuantizeCalibrated(
    const Transformer& model, const QuantizePlan& plan,
    const TokenSample& sample, const std::string& output,
    const CalibratedQuantizeOptions& options, ThreadPool& pool) {
  return GuardMemory(
      [&] { return Run(model, plan, sample, output, options, pool).Go(); });
}

}  // namespace qeff
