// SPDX-License-Identifier: Apache-2.0
//
// Products of which a report says how long they took.

#ifndef QEFF_QUANT_TIMED_PRODUCTS_H_
#define QEFF_QUANT_TIMED_PRODUCTS_H_

#include <chrono>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {

// What took `seconds`, with multiplications and additions counted as two.
struct TimedWork {
  double seconds = 0;
  double flops = 0;

  TimedWork& operator+=(const TimedWork& other) {
    seconds += other.seconds;
    flops += other.flops;
    return *this;
  }
};

// Adds to `seconds` when it ends.
class WorkWatch {
 public:
  explicit WorkWatch(double* seconds) : seconds_(seconds) {}
  ~WorkWatch() {
    *seconds_ += std::chrono::duration<double>(Clock::now() - start_).count();
  }
  WorkWatch(const WorkWatch&) = delete;
  WorkWatch& operator=(const WorkWatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;

  double* const seconds_;
  const Clock::time_point start_ = Clock::now();
};

// Sgemm for a caller that has many products. Not thread-safe.
class TimedProducts {
 public:
  explicit TimedProducts(ThreadPool& pool) : pool_(pool) {}

  // Preconditions (checked): those of Sgemm.
  void Run(const SgemmArgs& args);

  // All until now.
  const TimedWork& work() const { return work_; }

 private:
  ThreadPool& pool_;
  SgemmScratch scratch_;
  TimedWork work_;
};

}  // namespace qeff

#endif  // QEFF_QUANT_TIMED_PRODUCTS_H_
