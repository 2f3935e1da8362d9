// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/calibrated_run.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "qeff/calibration/journal.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kMostJournalBytes = size_t{64} << 20;

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
std::string SampleWarning(const Transformer& model, const LayerSolver& solver,
                          const TokenSample& sample) {
  constexpr int64_t kTokensOfInput = 4;
  const LinearModule* widest = nullptr;
  for (const BlockNames& block : model.map().blocks) {
    for (const LinearModule& linear : block.linears) {
      if (!solver.Changes(linear)) continue;
      if (widest == nullptr || linear.in_features > widest->in_features) {
        widest = &linear;
      }
    }
  }
  if (widest == nullptr) return "";
  const int64_t wanted = kTokensOfInput * widest->in_features;
  if (sample.tokens >= wanted) return "";
  return absl::StrCat("the calibration text gives ", sample.tokens, " tokens; ",
                      widest->module, " has ", widest->in_features,
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

// One run.
class Run {
 public:
  Run(const Transformer& model, const TokenSample& sample,
      const CalibratedWork& work, const CalibratedRunOptions& options,
      ThreadPool& pool)
      : model_(model),
        sample_(sample),
        work_(work),
        options_(options),
        pool_(pool) {}

  absl::StatusOr<CalibratedRunResult> Go(const std::string& output) {
    QEFF_ASSIGN_OR_RETURN(result_.estimate,
                          EstimateRun(model_, sample_, work_,
                                      options_.memory_limit_bytes, pool_));
    QEFF_ASSIGN_OR_RETURN(std::unique_ptr<PartialFolder> folder,
                          PartialFolder::Open(output, options_.unfinished));
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
        writer_,
        CheckpointWriter::CreateIn(folder_, work_.tensors, options_.writer));
    work_.set_writer(writer_.get());
    CountFinishedSteps();
    if (options_.planned) options_.planned(result_.estimate);

    WalkOptions walk;
    walk.work_folder = folder_->path();
    walk.check = options_.check;
    walk.progress = options_.progress;
    walk.allow_bad_inputs = options_.allow_bad_inputs;
    QEFF_ASSIGN_OR_RETURN(
        result_.times, WalkBlocks(model_, sample_, result_.estimate.walk,
                                  journal_.get(), work_.solver, walk, pool_));
    for (const std::string& name : work_.copied) {
      QEFF_RETURN_IF_ERROR(CopyTensor(model_.checkpoint(), name, options_.check,
                                      writer_.get()));
    }
    const Checkpoint& checkpoint = model_.checkpoint();
    QEFF_ASSIGN_OR_RETURN(const auto files, ReadOtherFiles(checkpoint));
    QEFF_RETURN_IF_ERROR(checkpoint.VerifyUnchanged());
    return writer_->Commit(work_.config, files);
  }

  absl::StatusOr<Json> Describe() const {
    QEFF_ASSIGN_OR_RETURN(const std::string model,
                          ModelFingerprint(model_.checkpoint()));
    Json description = work_.description;
    description["model"] = model;
    description["tokens"] = sample_.tokens;
    description["sample"] = SampleFingerprint(sample_);
    return description;
  }

  void CountFinishedSteps() {
    RunEstimate& estimate = result_.estimate;
    estimate.steps_done = static_cast<int64_t>(journal_->steps().size());
    const double steps = static_cast<double>(model_.spec().num_layers +
                                             (estimate.walk.lm_head ? 1 : 0));
    estimate.seconds *= 1 - static_cast<double>(estimate.steps_done) / steps;
  }

  const Transformer& model_;
  const TokenSample& sample_;
  const CalibratedWork& work_;
  const CalibratedRunOptions& options_;
  ThreadPool& pool_;
  std::shared_ptr<PartialFolder> folder_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<CheckpointWriter> writer_;
  CalibratedRunResult result_;
};

}  // namespace

absl::StatusOr<RunEstimate> EstimateRun(const Transformer& model,
                                        const TokenSample& sample,
                                        const CalibratedWork& work,
                                        uint64_t memory_limit_bytes,
                                        ThreadPool& pool) {
  RunEstimate estimate;
  QEFF_ASSIGN_OR_RETURN(estimate.walk,
                        PlanWalk(model, sample, *work.solver, work.lm_head,
                                 work.solver_bytes, memory_limit_bytes));
  estimate.solver_flops = work.solver_flops;
  estimate.tune_flops = work.tune_flops;
  estimate.warning = SampleWarning(model, *work.solver, sample);
  // Products reach most of what is measured; the rest of the work is added.
  constexpr double kOverhead = 1.25;
  estimate.seconds =
      kOverhead *
      (estimate.walk.forward_flops + estimate.walk.hessian_flops +
       estimate.solver_flops + estimate.tune_flops) /
      MeasureFlops(pool);
  return estimate;
}

absl::StatusOr<CalibratedRunResult> RunCalibrated(
    const Transformer& model, const TokenSample& sample,
    const CalibratedWork& work, const std::string& output,
    const CalibratedRunOptions& options, ThreadPool& pool) {
  return Run(model, sample, work, options, pool).Go(output);
}

Json UnfinishedDescription(const std::string& output) {
  const auto text =
      ReadFileToString(output + ".partial/journal", kMostJournalBytes);
  if (!text.ok()) return nullptr;
  const auto description =
      ParseJson(text->substr(0, text->find('\n')), "journal");
  if (!description.ok() || !description->is_object()) return nullptr;
  return *description;
}

}  // namespace qeff
