// SPDX-License-Identifier: Apache-2.0
//
// Scales of static 8-bit inputs, from what calibration has seen of them.

#ifndef QEFF_QUANT_OBSERVER_H_
#define QEFF_QUANT_OBSERVER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/calibration/magnitude_histogram.h"

namespace qeff {

// Where magnitudes are cut off.
enum class Observer : uint8_t {
  kMinMax,      // nowhere: at the largest
  kPercentile,  // so that kObservedShare of them stay
  kMse,         // where the squared error of rounding and cutting is least
};

inline constexpr double kObservedShare = 0.9999;

// "minmax", "percentile", "mse". Errors: kInvalidArgument.
absl::StatusOr<Observer> ParseObserver(absl::string_view name);
absl::string_view ObserverName(Observer observer);

// The scale: the cut / 127, brought into the range of IsActivationScale; 1
// where all inputs were 0. kMse looks at cuts of 1/128, 2/128, ... of the
// largest and takes a bin's elements to be in its middle: a bin is a sixteenth
// of a step at most where nothing is cut, and half a step at 1/32 of that. Same
// result for the same histogram. Cost: 0.5 million operations.
float ObservedScale(const MagnitudeHistogram& magnitudes, Observer observer);

}  // namespace qeff

#endif  // QEFF_QUANT_OBSERVER_H_
