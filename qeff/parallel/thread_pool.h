// SPDX-License-Identifier: Apache-2.0
//
// The one way to use several threads. A pool is created by whoever owns the
// process (a command, a test, a device session) and passed down; nothing
// creates threads of its own.

#ifndef QEFF_PARALLEL_THREAD_POOL_H_
#define QEFF_PARALLEL_THREAD_POOL_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace qeff {

// Runs loops on a fixed set of threads, the caller's included. Thread-safe,
// but concurrent calls run one after another. Which thread runs which part is
// not defined: results must not depend on it.
class ThreadPool {
 public:
  virtual ~ThreadPool() = default;

  virtual int num_threads() const = 0;

  // Calls body(begin, end, thread) for consecutive ranges that together cover
  // [0, count) exactly once; each range but the last has `grain` elements.
  // `thread` is in [0, num_threads()) and no two calls with the same value
  // overlap in time. A thread begins with ranges that follow one another, in
  // order, and then helps the others. Returns when all calls have. `body` must
  // not call into the same pool. An exception from `body` (std::bad_alloc) is
  // rethrown in the caller after all threads have stopped. Preconditions:
  // count >= 0, grain >= 1.
  virtual void ParallelFor(
      int64_t count, int64_t grain,
      absl::FunctionRef<void(int64_t begin, int64_t end, int thread)> body) = 0;
};

// A grain for ParallelFor that gives every thread several ranges, so that an
// uneven load evens out, but no range below `min_grain` elements.
int64_t BalancedGrain(int64_t count, int num_threads, int64_t min_grain);

// A pool of `num_threads` threads, the caller being one of them. A loop ends
// when its ranges are done, whether or not every thread has had a turn: with
// other work on the machine a thread may come late, and is not waited for.
// Threads without work wait about 50 us before they sleep.
// Errors: kInvalidArgument unless 1 <= num_threads <= 1024;
// kResourceExhausted when the system refuses to start threads.
absl::StatusOr<std::unique_ptr<ThreadPool>> CreateThreadPool(int num_threads);

// Number of processors that this process may use, at least 1.
int NumAvailableProcessors();

}  // namespace qeff

#endif  // QEFF_PARALLEL_THREAD_POOL_H_
