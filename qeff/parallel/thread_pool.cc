// SPDX-License-Identifier: Apache-2.0

#include "qeff/parallel/thread_pool.h"

#include <pthread.h>
#include <pthreadpool.h>
#include <sched.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "qeff/parallel/range_job.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using internal_parallel::LoopBody;
using internal_parallel::RangeJob;

class PthreadpoolThreadPool : public ThreadPool {
 public:
  explicit PthreadpoolThreadPool(pthreadpool_t pool) : pool_(pool) {}
  ~PthreadpoolThreadPool() override { pthreadpool_destroy(pool_); }

  int num_threads() const override {
    return static_cast<int>(pthreadpool_get_threads_count(pool_));
  }

  void ParallelFor(int64_t count, int64_t grain, LoopBody body) override {
    QEFF_CHECK(count >= 0 && grain >= 1);
    if (count <= grain) {
      return internal_parallel::RunSequentially(count, grain, body);
    }
    RangeJob job(count, grain, body);
    // One task a thread; each takes ranges until none is left. The index of
    // the task serves as the number of the thread.
    pthreadpool_parallelize_1d(pool_, &RunRanges, &job,
                               static_cast<size_t>(num_threads()),
                               /*flags=*/0);
    job.Rethrow();
  }

 private:
  static void RunRanges(void* job, size_t thread) {
    static_cast<RangeJob*>(job)->Run(static_cast<int>(thread));
  }

  pthreadpool_t pool_;
};

class SequentialPool : public ThreadPool {
 public:
  int num_threads() const override { return 1; }
  void ParallelFor(int64_t count, int64_t grain, LoopBody body) override {
    QEFF_CHECK(count >= 0 && grain >= 1);
    internal_parallel::RunSequentially(count, grain, body);
  }
};

// Whether the system lets this process start `count` more threads now.
// pthreadpool_create hangs when it cannot start one of its own.
bool CanStartThreads(int count) {
  std::vector<pthread_t> threads;
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    const auto nothing = [](void* argument) { return argument; };
    if (pthread_create(&thread, nullptr, nothing, nullptr) != 0) break;
    threads.push_back(thread);
  }
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  return static_cast<int>(threads.size()) == count;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ThreadPool>> CreateThreadPool(int num_threads) {
  if (num_threads < 1 || num_threads > 1024) {
    return InvalidInputError("number of threads: expected 1 to 1024, found ",
                             num_threads);
  }
  if (num_threads == 1) return std::make_unique<SequentialPool>();
  if (!CanStartThreads(num_threads - 1)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start ", num_threads - 1, " threads; try fewer"));
  }
  const pthreadpool_t pool =
      pthreadpool_create(static_cast<size_t>(num_threads));
  if (pool == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot create a pool of ", num_threads, " threads"));
  }
  return std::make_unique<PthreadpoolThreadPool>(pool);
}

int NumAvailableProcessors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace qeff
