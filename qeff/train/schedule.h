// SPDX-License-Identifier: Apache-2.0
//
// The learning rate of each step.

#ifndef QEFF_TRAIN_SCHEDULE_H_
#define QEFF_TRAIN_SCHEDULE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace qeff {

// What follows the warm-up, with p going from 0 at its end to 1 at total_steps:
enum class ScheduleKind : uint8_t {
  kConstant,  // peak
  kCosine,    // down along (1 + cos(pi p)) / 2
  kLinear,    // down along 1 - p
  // Peak, then down along 1 - sqrt(q), with q going from 0 to 1 in the last
  // decay_share of the steps: where to stop need not be known before that, and
  // steps can be added to what was saved there. Source: Haegele et al.,
  // "Scaling laws and compute-optimal training beyond fixed training
  // durations", 2024, arXiv 2405.18392.
  kWsd,
};

// "constant", "cosine", "linear", "wsd". Errors: kInvalidArgument.
absl::StatusOr<ScheduleKind> ParseScheduleKind(absl::string_view name);
absl::string_view ScheduleKindName(ScheduleKind kind);

struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::kCosine;
  double peak = 1e-3;
  // What "down" ends at, of the peak: by default 0.1 for cosine, else 0.
  absl::optional<double> final_share;
  // Steps in which the rate grows by equal parts to the peak, which the last of
  // them has.
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;
  double decay_share = 0.2;  // of total_steps; wsd only
};

// Errors: kInvalidArgument, with the option, what it is to be and what it is,
// when peak is not positive, a share is outside [0, 1], total_steps is not
// positive, or the warm-up (and wsd's decay) takes more than total_steps.
absl::Status CheckSchedule(const ScheduleOptions& options);

// The rate of `step`, counted from 0; from total_steps on the final one.
// Preconditions: CheckSchedule, step >= 0. Thread-safe.
double LearningRate(const ScheduleOptions& options, int64_t step);

}  // namespace qeff

#endif  // QEFF_TRAIN_SCHEDULE_H_
