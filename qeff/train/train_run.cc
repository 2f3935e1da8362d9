// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/train_run.h"

#include <cmath>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/train/agreement.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/train/metrics_file.h"
#include "qeff/train/train_files.h"
#include "qeff/util/checksum.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::Span<uint8_t> BytesOf(absl::Span<float> values) {
  return absl::MakeSpan(reinterpret_cast<uint8_t*>(values.data()),
                        values.size() * sizeof(float));
}

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

// Of what optimizers go on from: the same in all processes.
Json ChecksumOf(const NamedFloats& state) {
  uint64_t sum = 0;
  for (const auto& part : state) {
    sum = sum * 31 + Checksum64(BytesOf(part.second));
  }
  return Json{{"state", absl::StrCat(absl::Hex(sum))}};
}

// All processes take the same way through this, as their steps need one
// another; the first has the files.
class Run {
 public:
  Run(const TrainWork& work, const std::string& folder,
      const TrainRunOptions& options)
      : work_(work),
        folder_(folder),
        options_(options),
        reducer_(work.step->reducer()),
        first_(IsFirst(reducer_)) {}

  absl::StatusOr<TrainRunResult> Go() {
    Json common = work_.description;
    common["save_every"] = options_.save_every;
    QEFF_RETURN_IF_ERROR(CheckSame(common, reducer_));
    QEFF_RETURN_IF_ERROR(Agree(Open(), reducer_));
    const absl::Status status = Work();
    if (status.ok()) return result_;
    return saved_step_ == 0 ? status : Kept(status);
  }

 private:
  // The files, and the state that they hold.
  absl::Status Open() {
    if (!first_) return absl::OkStatus();
    QEFF_ASSIGN_OR_RETURN(files_, TrainFiles::Open(folder_, work_.description,
                                                   options_.kept_states));
    if (files_->last().is_null()) return absl::OkStatus();
    saved_step_ = files_->last()["step"].get<int64_t>();
    const absl::Status status = files_->Load(work_.step->State());
    return status.ok() ? status : Kept(status);
  }

  absl::Status Work() {
    QEFF_RETURN_IF_ERROR(Begin());
    QEFF_RETURN_IF_ERROR(Agree(OpenMetrics(), reducer_));
    if (step_ == 0) QEFF_RETURN_IF_ERROR(MeasureBeginning());
    if (measured_step_ < step_) QEFF_RETURN_IF_ERROR(MeasureAgain());
    while (step_ < options_.steps) QEFF_RETURN_IF_ERROR(Step());
    return Agree(first_ ? Finish() : absl::OkStatus(), reducer_);
  }

  absl::Status OpenMetrics() {
    QEFF_ASSIGN_OR_RETURN(
        metrics_, MetricsFile::Open(first_ ? options_.metrics : "", step_));
    return absl::OkStatus();
  }

  absl::Status Finish() {
    QEFF_RETURN_IF_ERROR(metrics_->Sync());
    return work_.write();
  }

  // From the state that the first process has loaded, or the beginning.
  absl::Status Begin() {
    std::string text;
    if (first_) text = WriteJson(files_->last());
    QEFF_RETURN_IF_ERROR(BroadcastText(0, &text, reducer_));
    QEFF_ASSIGN_OR_RETURN(const Json last, ParseJson(text, "the last state"));
    if (last.is_null()) {
      // That of the description, in each of them: gigabytes need not be sent.
      return reducer_ == nullptr
                 ? absl::OkStatus()
                 : CheckSame(ChecksumOf(work_.step->State()), reducer_);
    }
    if (reducer_ != nullptr) {
      for (const auto& part : work_.step->State()) {
        QEFF_RETURN_IF_ERROR(Agree(Checked(), reducer_));
        QEFF_RETURN_IF_ERROR(reducer_->Broadcast(0, BytesOf(part.second)));
      }
    }
    QEFF_ASSIGN_OR_RETURN(
        const JsonObjectReader saved,
        JsonObjectReader::Create(last, folder_ + "/journal: last line"));
    QEFF_ASSIGN_OR_RETURN(step_, saved.Int("step", 0, kMaxTrainSteps));
    QEFF_ASSIGN_OR_RETURN(const int64_t applied,
                          saved.IntOr("applied", 0, 0, step_));
    work_.step->set_applied_steps(applied);
    QEFF_ASSIGN_OR_RETURN(result_.skipped, saved.IntOr("skipped", 0, 0, step_));
    // A number that is not finite was written as null.
    QEFF_ASSIGN_OR_RETURN(result_.held_out_before,
                          saved.NumberOr("held_out_before", -1.0));
    QEFF_ASSIGN_OR_RETURN(result_.held_out_after,
                          saved.NumberOr("held_out", -1.0));
    QEFF_ASSIGN_OR_RETURN(result_.loss, saved.NumberOr("loss", 0.0));
    QEFF_ASSIGN_OR_RETURN(measured_step_,
                          saved.IntOr("measured", step_, 0, step_));
    result_.first_step = step_;
    saved_step_ = step_;
    return absl::OkStatus();
  }

  absl::Status MeasureBeginning() {
    if (work_.held_out.empty()) return absl::OkStatus();
    StepProgress progress;
    progress.steps = options_.steps;
    QEFF_ASSIGN_OR_RETURN(progress.held_out_loss,
                          work_.step->HeldOutLoss(work_.held_out));
    result_.held_out_before = progress.held_out_loss;
    QEFF_RETURN_IF_ERROR(metrics_->Append(MetricsOf(progress)));
    if (options_.progress) options_.progress(progress);
    return absl::OkStatus();
  }

  // What an earlier run was ended in, after the step.
  absl::Status MeasureAgain() {
    QEFF_ASSIGN_OR_RETURN(const double loss,
                          work_.step->HeldOutLoss(work_.held_out));
    result_.held_out_after = loss;
    measured_step_ = step_;
    return metrics_->Append({{"step", step_}, {"held_out_loss", loss}});
  }

  absl::Status Checked() const {
    return options_.check ? options_.check() : absl::OkStatus();
  }

  // `status` after the state was saved.
  absl::Status Stop(const absl::Status& status) {
    if (step_ > saved_step_) QEFF_RETURN_IF_ERROR(Save());
    return status;
  }

  bool Every(int64_t period) const {
    return step_ == options_.steps || (period > 0 && step_ % period == 0);
  }

  absl::Status Step() {
    const absl::Status status = Agree(Checked(), reducer_);
    if (!status.ok()) return Stop(status);
    StepProgress progress;
    const absl::Time start = options_.clock();
    const auto report = work_.step->Run(step_);
    if (!report.ok()) {
      // Given up, and nothing has changed.
      return work_.step->stopped() ? Stop(report.status()) : report.status();
    }
    progress.report = *report;
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
    absl::Status stopped;
    const int64_t measured_before = measured_step_;
    measured_step_ = step_;
    if (!work_.held_out.empty() && Every(options_.eval_every)) {
      const auto loss = work_.step->HeldOutLoss(work_.held_out);
      if (loss.ok()) {
        progress.held_out_loss = *loss;
        result_.held_out_after = *loss;
      } else if (work_.step->stopped()) {
        stopped = loss.status();
        measured_step_ = measured_before;
      } else {
        return loss.status();
      }
    }
    QEFF_RETURN_IF_ERROR(metrics_->Append(MetricsOf(progress)));
    if (!stopped.ok()) return Stop(stopped);
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
    const NamedFloats state = work_.step->State();
    if (reducer_ != nullptr) {
      QEFF_RETURN_IF_ERROR(CheckSame(ChecksumOf(state), reducer_));
    }
    QEFF_RETURN_IF_ERROR(
        Agree(first_ ? Write(state) : absl::OkStatus(), reducer_));
    saved_step_ = step_;
    return absl::OkStatus();
  }

  absl::Status Write(const NamedFloats& state) {
    QEFF_RETURN_IF_ERROR(metrics_->Sync());
    const Json progress = {{"step", step_},
                           {"applied", work_.step->applied_steps()},
                           {"skipped", result_.skipped},
                           {"loss", result_.loss},
                           {"held_out_before", result_.held_out_before},
                           {"held_out", result_.held_out_after},
                           {"measured", measured_step_}};
    return files_->Save(progress, state);
  }

  // `status` with where the work is kept.
  absl::Status Kept(const absl::Status& status) const {
    absl::Status result(
        status.code(),
        absl::StrCat(status.message(), "; the state after step ", saved_step_,
                     " is kept in ", folder_,
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
  GradientReducer* const reducer_;
  const bool first_;
  std::unique_ptr<TrainFiles> files_;  // of the first process
  std::unique_ptr<MetricsFile> metrics_;
  TrainRunResult result_;
  int64_t step_ = 0;  // that are done
  int64_t saved_step_ = 0;
  // Up to which held-out losses were measured where they are to be.
  int64_t measured_step_ = 0;
  int64_t bad_in_a_row_ = 0;
};

}  // namespace

absl::StatusOr<TrainRunResult> RunTraining(const TrainWork& work,
                                           const std::string& folder,
                                           const TrainRunOptions& options) {
  return GuardMemory([&] { return Run(work, folder, options).Go(); });
}

}  // namespace qeff
