// SPDX-License-Identifier: Apache-2.0
//
// How often magnitudes of activations occur, whatever their range turns out to
// be: what scales of static 8-bit inputs are chosen from.

#ifndef QEFF_CALIBRATION_MAGNITUDE_HISTOGRAM_H_
#define QEFF_CALIBRATION_MAGNITUDE_HISTOGRAM_H_

#include <array>
#include <cstdint>

#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Bins of equal width that begin at 0; a bin holds its lower edge. The width is
// a power of two, the smallest with which the largest magnitude so far lies
// inside: when it grows, neighbours are added. So the histogram depends on
// neither the order of what was added nor the number of threads. At least half
// of the bins are at or below the largest magnitude: of 127 steps of an 8-bit
// code each has 16 bins or more. Not thread-safe.
class MagnitudeHistogram {
 public:
  static constexpr int kBins = 4096;

  // Counts the elements of `rows`. NaN and infinity are not counted. Throws
  // std::bad_alloc.
  void Add(MatrixView<const float> rows, ThreadPool& pool);

  const std::array<uint64_t, kBins>& counts() const { return counts_; }
  uint64_t total() const;
  // Of a bin; 0 as long as all were 0.
  double width() const;
  // The largest magnitude, exactly.
  float largest() const { return largest_; }

 private:
  // Makes room for `largest`.
  void Grow(float largest);

  std::array<uint64_t, kBins> counts_ = {};
  float largest_ = 0;
  int exponent_ = 0;  // the bins end at 2^exponent_; unless largest_ is 0
};

}  // namespace qeff

#endif  // QEFF_CALIBRATION_MAGNITUDE_HISTOGRAM_H_
