// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/limits/machine_limits.h"

#include <algorithm>
#include <ctime>

#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

double Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) / 1e9;
}

}  // namespace

double SecondsOf(const ThreadPool& pool, absl::FunctionRef<void()> body) {
  const clockid_t clock =
      pool.num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  const double start = Now(clock);
  body();
  return Now(clock) - start;
}

double Median(std::vector<double> values) {
  QEFF_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double PeakRate(ThreadPool& pool, void (*run_steps)(int64_t steps),
                int64_t operations_of_step) {
  // A millisecond or more a part, so that starting threads does not count.
  constexpr int64_t kSteps = 50000;
  const int64_t parts = int64_t{4} * pool.num_threads();
  const double seconds = SecondsOf(pool, [&] {
    pool.ParallelFor(parts, 1,
                     [&](int64_t, int64_t, int) { run_steps(kSteps); });
  });
  return static_cast<double>(parts * kSteps * operations_of_step) / seconds;
}

AlignedArray<uint8_t> MemoryToRead(size_t bytes) {
  AlignedArray<uint8_t> memory(bytes);
  std::fill(memory.begin(), memory.end(), uint8_t{1});
  return memory;
}

double ReadBandwidth(ThreadPool& pool, absl::Span<const uint8_t> memory) {
  constexpr int64_t kPartBytes = 1 << 18;
  const int64_t parts = static_cast<int64_t>(memory.size()) / kPartBytes;
  QEFF_CHECK(parts >= 1);
  double best = 0;
  for (bool fetch_pages : {false, true}) {
    const double seconds = SecondsOf(pool, [&] {
      pool.ParallelFor(parts, 8, [&](int64_t begin, int64_t end, int) {
        ReadMemory(memory.data() + begin * kPartBytes,
                   (end - begin) * kPartBytes, fetch_pages);
      });
    });
    best = std::max(best, static_cast<double>(parts * kPartBytes) / seconds);
  }
  return best;
}

}  // namespace qeff
