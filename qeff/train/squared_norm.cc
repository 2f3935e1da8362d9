// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/squared_norm.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "qeff/util/checked.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

// Summed up by one thread. Their number does not depend on that of threads.
constexpr int64_t kElemsOfRun = 1 << 16;

// Sums side by side, so that additions need not wait for one another.
constexpr size_t kLanes = 32;

QEFF_VECTOR_CLONES double SumOfSquares(const float* values, size_t count) {
  double sums[kLanes] = {};
  const size_t whole = count / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  double sum = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  for (size_t i = whole; i < count; ++i) {
    const double value = values[i];
    sum += value * value;
  }
  return sum;
}

}  // namespace

double SquaredNorm(absl::Span<const float> values, ThreadPool& pool) {
  const int64_t count = static_cast<int64_t>(values.size());
  std::vector<double> sums(
      static_cast<size_t>(CeilDiv<int64_t>(count, kElemsOfRun)));
  pool.ParallelFor(
      static_cast<int64_t>(sums.size()), 1,
      [&](int64_t begin, int64_t end, int /*thread*/) {
        for (int64_t run = begin; run < end; ++run) {
          const int64_t first = run * kElemsOfRun;
          sums[static_cast<size_t>(run)] = SumOfSquares(
              values.data() + first,
              static_cast<size_t>(std::min(kElemsOfRun, count - first)));
        }
      });
  double sum = 0;
  for (const double of_run : sums) sum += of_run;
  return sum;
}

}  // namespace qeff
