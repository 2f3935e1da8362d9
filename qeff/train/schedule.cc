// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/schedule.h"

#include <algorithm>
#include <cmath>

#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr double kPi = 3.14159265358979323846;

constexpr ScheduleKind kKinds[] = {ScheduleKind::kConstant,
                                   ScheduleKind::kCosine, ScheduleKind::kLinear,
                                   ScheduleKind::kWsd};

// Steps at the end in which the rate goes down.
int64_t DecaySteps(const ScheduleOptions& options) {
  if (options.kind != ScheduleKind::kWsd) {
    return options.total_steps - options.warmup_steps;
  }
  return std::llround(options.decay_share *
                      static_cast<double>(options.total_steps));
}

// How much of the way down is left, where `progress` of it is done.
double Remaining(ScheduleKind kind, double progress) {
  switch (kind) {
    case ScheduleKind::kConstant:
      return 1;
    case ScheduleKind::kCosine:
      return 0.5 * (1 + std::cos(kPi * progress));
    case ScheduleKind::kLinear:
      return 1 - progress;
    case ScheduleKind::kWsd:
      return 1 - std::sqrt(progress);
  }
  QEFF_CHECK(false && "unknown schedule");
}

absl::Status CheckShare(absl::string_view name, double share) {
  if (share >= 0 && share <= 1) return absl::OkStatus();  // false for NaN
  return InvalidInputError(name, ": expected a number from 0 to 1, found ",
                           share);
}

}  // namespace

absl::StatusOr<ScheduleKind> ParseScheduleKind(absl::string_view name) {
  for (const ScheduleKind kind : kKinds) {
    if (name == ScheduleKindName(kind)) return kind;
  }
  return InvalidInputError("\"", name,
                           "\": expected constant, cosine, linear or wsd");
}

absl::string_view ScheduleKindName(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::kConstant:
      return "constant";
    case ScheduleKind::kCosine:
      return "cosine";
    case ScheduleKind::kLinear:
      return "linear";
    case ScheduleKind::kWsd:
      return "wsd";
  }
  QEFF_CHECK(false && "unknown schedule");
}

absl::Status CheckSchedule(const ScheduleOptions& options) {
  if (!(options.peak > 0) || !std::isfinite(options.peak)) {
    return InvalidInputError(
        "learning rate: expected a positive number, "
        "found ",
        options.peak);
  }
  QEFF_RETURN_IF_ERROR(
      CheckShare("final share", options.final_share.value_or(0)));
  QEFF_RETURN_IF_ERROR(CheckShare("decay share", options.decay_share));
  if (options.total_steps < 1) {
    return InvalidInputError("steps: expected at least 1, found ",
                             options.total_steps);
  }
  if (options.warmup_steps < 0 || options.warmup_steps > options.total_steps) {
    return InvalidInputError("warm-up steps: expected 0 to ",
                             options.total_steps, " (all steps), found ",
                             options.warmup_steps);
  }
  const int64_t decay_steps = DecaySteps(options);
  if (decay_steps > options.total_steps - options.warmup_steps) {
    return InvalidInputError("warm-up and decay: expected at most ",
                             options.total_steps,
                             " steps (all) together, found ",
                             options.warmup_steps, " and ", decay_steps);
  }
  return absl::OkStatus();
}

double LearningRate(const ScheduleOptions& options, int64_t step) {
  if (step < options.warmup_steps) {
    return options.peak * static_cast<double>(step + 1) /
           static_cast<double>(options.warmup_steps);
  }
  const int64_t decay_steps = DecaySteps(options);
  const int64_t decayed =
      std::max<int64_t>(0, std::min(step, options.total_steps) -
                               (options.total_steps - decay_steps));
  const double progress =
      decay_steps == 0
          ? 0
          : static_cast<double>(decayed) / static_cast<double>(decay_steps);
  const double last = options.final_share.value_or(
      options.kind == ScheduleKind::kCosine ? 0.1 : 0);
  return options.peak * (last + (1 - last) * Remaining(options.kind, progress));
}

}  // namespace qeff
