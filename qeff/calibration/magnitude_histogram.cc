// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/magnitude_histogram.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 64;

// log2 of the number of bins.
constexpr int kBinsExponent = 12;
static_assert(MagnitudeHistogram::kBins == 1 << kBinsExponent);

float LargestFinite(const float* x, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float magnitude = std::abs(x[i]);
    // False for NaN.
    if (magnitude > largest && magnitude <= std::numeric_limits<float>::max()) {
      largest = magnitude;
    }
  }
  return largest;
}

}  // namespace

uint64_t MagnitudeHistogram::total() const {
  return std::accumulate(counts_.begin(), counts_.end(), uint64_t{0});
}

double MagnitudeHistogram::width() const {
  return largest_ == 0 ? 0.0 : std::ldexp(1.0, exponent_ - kBinsExponent);
}

void MagnitudeHistogram::Grow(float largest) {
  if (largest <= largest_) return;
  int exponent = 0;
  std::frexp(largest, &exponent);  // largest < 2^exponent
  // Zeros stay where they are.
  const int shift =
      largest_ == 0 ? 0 : std::min(exponent - exponent_, kBinsExponent);
  largest_ = largest;
  exponent_ = exponent;
  if (shift == 0) return;
  for (size_t i = 0; i < counts_.size(); ++i) {
    const uint64_t count = counts_[i];
    counts_[i] = 0;
    counts_[i >> shift] += count;
  }
}

void MagnitudeHistogram::Add(MatrixView<const float> rows, ThreadPool& pool) {
  const size_t threads = static_cast<size_t>(pool.num_threads());
  std::vector<float> largest(threads);
  pool.ParallelFor(
      rows.rows(), kRowsOfTask, [&](int64_t row, int64_t end, int thread) {
        float& most = largest[static_cast<size_t>(thread)];
        for (; row < end; ++row) {
          most = std::max(most, LargestFinite(rows.row(row), rows.cols()));
        }
      });
  Grow(*std::max_element(largest.begin(), largest.end()));

  std::vector<std::array<uint64_t, kBins>> counts(threads);
  const double bins = largest_ == 0 ? 0.0 : 1 / width();
  pool.ParallelFor(
      rows.rows(), kRowsOfTask, [&](int64_t row, int64_t end, int thread) {
        auto& own = counts[static_cast<size_t>(thread)];
        for (; row < end; ++row) {
          const float* x = rows.row(row);
          for (int64_t c = 0; c < rows.cols(); ++c) {
            const double magnitude = static_cast<double>(std::abs(x[c]));
            if (!std::isfinite(magnitude)) continue;
            ++own[static_cast<size_t>(magnitude * bins)];  // exact
          }
        }
      });
  for (const auto& own : counts) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += own[i];
  }
}

}  // namespace qeff
