// SPDX-License-Identifier: Apache-2.0
//
// One loop of a ThreadPool that several threads work off: what the pools have
// in common.

#ifndef QEFF_PARALLEL_RANGE_JOB_H_
#define QEFF_PARALLEL_RANGE_JOB_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#include "absl/functional/function_ref.h"

namespace qeff {
namespace internal_parallel {

using LoopBody = absl::FunctionRef<void(int64_t, int64_t, int)>;

inline void RunSequentially(int64_t count, int64_t grain, LoopBody body) {
  for (int64_t begin = 0; begin < count; begin += grain) {
    body(begin, std::min(begin + grain, count), 0);
  }
}

// Thread-safe.
class RangeJob {
 public:
  RangeJob(int64_t count, int64_t grain, LoopBody body)
      : count_(count), grain_(grain), body_(body) {}

  // Takes ranges until none is left, as thread number `thread`.
  void Run(int thread) {
    try {
      for (;;) {
        const int64_t begin = next_.fetch_add(grain_);
        if (begin >= count_) return;
        body_(begin, std::min(begin + grain_, count_), thread);
      }
    } catch (...) {
      next_ = count_;  // the others stop after their current range
      std::lock_guard<std::mutex> lock(mutex_);
      if (exception_ == nullptr) exception_ = std::current_exception();
    }
  }

  // Throws what the first failing range threw. All threads have left Run.
  void Rethrow() {
    if (exception_ != nullptr) std::rethrow_exception(exception_);
  }

 private:
  const int64_t count_;
  const int64_t grain_;
  const LoopBody body_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr exception_;  // guarded by mutex_
};

}  // namespace internal_parallel
}  // namespace qeff

#endif  // QEFF_PARALLEL_RANGE_JOB_H_
