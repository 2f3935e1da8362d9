// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/observer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr double kSteps = 127;  // of a code, on each side of 0
constexpr int kCuts = 128;

// IsActivationScale's.
constexpr double kSmallest = 0x1p-126, kLargest = 0x1p126;

double PercentileCut(const MagnitudeHistogram& magnitudes) {
  const double wanted =
      kObservedShare * static_cast<double>(magnitudes.total());
  double below = 0;
  for (size_t i = 0; i < magnitudes.counts().size(); ++i) {
    below += static_cast<double>(magnitudes.counts()[i]);
    if (below < wanted) continue;
    return std::min(static_cast<double>(i + 1) * magnitudes.width(),
                    static_cast<double>(magnitudes.largest()));
  }
  return static_cast<double>(magnitudes.largest());
}

double SquaredError(const MagnitudeHistogram& magnitudes, double cut) {
  const double scale = cut / kSteps;
  double error = 0;
  for (size_t i = 0; i < magnitudes.counts().size(); ++i) {
    if (magnitudes.counts()[i] == 0) continue;
    const double x = (static_cast<double>(i) + 0.5) * magnitudes.width();
    const double difference =
        x - std::min(std::nearbyint(x / scale), kSteps) * scale;
    error +=
        static_cast<double>(magnitudes.counts()[i]) * difference * difference;
  }
  return error;
}

double LeastErrorCut(const MagnitudeHistogram& magnitudes) {
  const double largest = static_cast<double>(magnitudes.largest());
  double best = largest;
  double least = SquaredError(magnitudes, largest);
  for (int i = kCuts - 1; i >= 1; --i) {
    const double cut = largest * i / kCuts;
    const double error = SquaredError(magnitudes, cut);
    if (!(error < least)) continue;
    least = error;
    best = cut;
  }
  return best;
}

}  // namespace

absl::StatusOr<Observer> ParseObserver(absl::string_view name) {
  for (const Observer observer :
       {Observer::kMinMax, Observer::kPercentile, Observer::kMse}) {
    if (name == ObserverName(observer)) return observer;
  }
  return InvalidInputError("unknown observer \"", name,
                           "\": expected minmax, percentile or mse");
}

absl::string_view ObserverName(Observer observer) {
  switch (observer) {
    case Observer::kMinMax:
      return "minmax";
    case Observer::kPercentile:
      return "percentile";
    default:
      return "mse";
  }
}

float ObservedScale(const MagnitudeHistogram& magnitudes, Observer observer) {
  if (magnitudes.largest() == 0) return 1;
  const double cut =
      observer == Observer::kMinMax ? static_cast<double>(magnitudes.largest())
      : observer == Observer::kPercentile ? PercentileCut(magnitudes)
                                          : LeastErrorCut(magnitudes);
  return static_cast<float>(
      std::min(std::max(cut / kSteps, kSmallest), kLargest));
}

}  // namespace qeff
