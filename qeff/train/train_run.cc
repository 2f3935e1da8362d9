// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/train_run.h"

#include <cmath>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "qeff/train/metrics_file.h"
#include "qeff/train/train_files.h"
#include "qeff/transformer/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

Json MetricsOf(const StepProgress& progress) {
  Json metrics = {{"step", progress.step}};
  if (progress.held_out_loss >= 0) {
    metrics["held_out_loss"] = progress.held_out_loss;
  }
  if (progress.step == 0) return metrics;
  const StepReport& report = progress.report;
  metrics["loss"] = report.terms[0].sum;
  for (size_t i = 1; i < report.terms.size(); ++i) {
    metrics[report.terms[i].name] = report.terms[i].sum;
  }
  metrics["gradient_norm"] = report.gradient_norm;
  metrics["learning_rate"] = report.learning_rate;
  metrics["tokens"] = report.tokens;
  metrics["seconds"] = progress.seconds;
  metrics["tokens_per_second"] = progress.tokens_per_second;
  if (progress.peak_fraction > 0) {
    metrics["f32_peak_fraction"] = progress.peak_fraction;
  }
  if (!report.bad.empty()) metrics["skipped"] = report.bad;
  return metrics;
}

class Run {
 public:
  Run(const TrainWork& work, const std::string& folder,
      const TrainRunOptions& options)
      : work_(work), folder_(folder), options_(options) {}

  absl::StatusOr<TrainRunResult> Go() {
    QEFF_ASSIGN_OR_RETURN(files_, TrainFiles::Open(folder_, work_.description,
                                                   options_.kept_states));
    const absl::Status status = Work();
    if (status.ok()) return result_;
    return files_->last().is_null() ? status : Kept(status);
  }

 private:
  absl::Status Work() {
    if (!files_->last().is_null()) QEFF_RETURN_IF_ERROR(Resume());
    result_.first_step = step_;
    saved_step_ = step_;
    QEFF_ASSIGN_OR_RETURN(metrics_, MetricsFile::Open(options_.metrics, step_));
    if (step_ == 0) QEFF_RETURN_IF_ERROR(MeasureBeginning());
    while (step_ < options_.steps) QEFF_RETURN_IF_ERROR(Step());
    QEFF_RETURN_IF_ERROR(metrics_->Sync());
    return work_.write();
  }

  absl::Status Resume() {
    QEFF_RETURN_IF_ERROR(files_->Load(work_.step->State()));
    const Json& last = files_->last();
    step_ = last["step"].get<int64_t>();
    // Written by Save beside it.
    work_.step->set_applied_steps(last.value("applied", int64_t{0}));
    result_.skipped = last.value("skipped", int64_t{0});
    result_.held_out_before = last.value("held_out_before", -1.0);
    result_.held_out_after = last.value("held_out", -1.0);
    result_.loss = last.value("loss", 0.0);
    return absl::OkStatus();
  }

  absl::Status MeasureBeginning() {
    if (work_.held_out.empty()) return absl::OkStatus();
    StepProgress progress;
    progress.steps = options_.steps;
    progress.held_out_loss = work_.step->HeldOutLoss(work_.held_out);
    result_.held_out_before = progress.held_out_loss;
    QEFF_RETURN_IF_ERROR(metrics_->Append(MetricsOf(progress)));
    if (options_.progress) options_.progress(progress);
    return absl::OkStatus();
  }

  bool Every(int64_t period) const {
    return step_ == options_.steps || (period > 0 && step_ % period == 0);
  }

  absl::Status Step() {
    if (options_.check) {
      const absl::Status status = options_.check();
      if (!status.ok()) {
        if (step_ > saved_step_) QEFF_RETURN_IF_ERROR(Save());
        return status;
      }
    }
    StepProgress progress;
    const absl::Time start = options_.clock();
    QEFF_ASSIGN_OR_RETURN(progress.report, work_.step->Run(step_));
    ++step_;
    progress.step = step_;
    progress.steps = options_.steps;
    progress.seconds = absl::ToDoubleSeconds(options_.clock() - start);
    const double tokens = static_cast<double>(progress.report.tokens);
    progress.tokens_per_second =
        progress.seconds > 0 ? tokens / progress.seconds : 0;
    if (work_.peak_flops > 0) {
      progress.peak_fraction = 6 * static_cast<double>(work_.parameters) *
                               progress.tokens_per_second / work_.peak_flops;
    }
    const bool bad = !progress.report.bad.empty();
    if (bad) {
      ++result_.skipped;
      ++bad_in_a_row_;
    } else {
      bad_in_a_row_ = 0;
      result_.loss = progress.report.terms[0].sum;
    }
    if (!work_.held_out.empty() && Every(options_.eval_every)) {
      progress.held_out_loss = work_.step->HeldOutLoss(work_.held_out);
      result_.held_out_after = progress.held_out_loss;
    }
    QEFF_RETURN_IF_ERROR(metrics_->Append(MetricsOf(progress)));
    if (options_.progress) options_.progress(progress);
    if (bad_in_a_row_ >= options_.most_bad_steps) {
      return NumericalError("step ", step_, ": ", progress.report.bad,
                            " is not finite, as in the ",
                            options_.most_bad_steps - 1,
                            " steps before; a lower --learning_rate may help");
    }
    return !bad && Every(options_.save_every) ? Save() : absl::OkStatus();
  }

  absl::Status Save() {
    QEFF_RETURN_IF_ERROR(metrics_->Sync());
    const Json progress = {{"step", step_},
                           {"applied", work_.step->applied_steps()},
                           {"skipped", result_.skipped},
                           {"loss", result_.loss},
                           {"held_out_before", result_.held_out_before},
                           {"held_out", result_.held_out_after}};
    saved_step_ = step_;
    return files_->Save(progress, work_.step->State());
  }

  // `status` with where the work is kept.
  absl::Status Kept(const absl::Status& status) const {
    absl::Status result(
        status.code(),
        absl::StrCat(status.message(), "; the state after step ",
                     files_->last()["step"].get<int64_t>(), " is kept in ",
                     folder_,
                     ": the same command with --resume goes on from there"));
    status.ForEachPayload(
        [&](absl::string_view type, const absl::Cord& payload) {
          result.SetPayload(type, payload);
        });
    return result;
  }

  const TrainWork& work_;
  const std::string& folder_;
  const TrainRunOptions& options_;
  std::unique_ptr<TrainFiles> files_;
  std::unique_ptr<MetricsFile> metrics_;
  TrainRunResult result_;
  int64_t step_ = 0;  // that are done
  int64_t saved_step_ = 0;
  int64_t bad_in_a_row_ = 0;
};

}  // namespace

absl::StatusOr<TrainRunResult> RunTraining(const TrainWork& work,
                                           const std::string& folder,
                                           const TrainRunOptions& options) {
  return GuardMemory([&] { return Run(work, folder, options).Go(); });
}

}  // namespace qeff
