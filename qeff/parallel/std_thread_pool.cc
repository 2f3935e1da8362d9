// SPDX-License-Identifier: Apache-2.0

#include "qeff/parallel/std_thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "qeff/parallel/range_job.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using internal_parallel::LoopBody;
using internal_parallel::RangeJob;

// About 50 us of waiting for work before a thread sleeps: decoding starts a
// loop every few tens of microseconds, and waking takes longer than that.
constexpr int kSpins = 2000;

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class StdThreadPool : public ThreadPool {
 public:
  ~StdThreadPool() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      ++loops_;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  // Throws std::system_error; threads that were started are then joined by the
  // destructor.
  void Start(int num_workers) {
    workers_.reserve(static_cast<size_t>(num_workers));
    for (int i = 1; i <= num_workers; ++i) {
      workers_.emplace_back([this, i] { Work(i); });
    }
  }

  int num_threads() const override {
    return static_cast<int>(workers_.size()) + 1;
  }

  void ParallelFor(int64_t count, int64_t grain, LoopBody body) override {
    QEFF_CHECK(count >= 0 && grain >= 1);
    if (count <= grain || workers_.empty()) {
      return internal_parallel::RunSequentially(count, grain, body);
    }
    std::lock_guard<std::mutex> one_loop_at_a_time(loop_mutex_);
    RangeJob job(count, grain, body);
    Open(&job);
    job.Run(/*thread=*/0);
    Close();
    job.Rethrow();
  }

 private:
  void Open(RangeJob* job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = job;
      ++loops_;
    }
    wake_.notify_all();
  }

  // No thread joins any more; waits for those that have.
  void Close() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = nullptr;
    }
    for (int i = 0; i < kSpins && running_.load() != 0; ++i) Pause();
    if (running_.load() == 0) return;
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_.load() == 0; });
  }

  void Work(int thread) {
    uint64_t seen = 0;  // loops
    while (RangeJob* job = Join(&seen)) {
      job->Run(thread);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--running_ == 0) done_.notify_one();
    }
  }

  // The loop that is open, waiting for one after `*seen`; null to stop.
  RangeJob* Join(uint64_t* seen) {
    for (;;) {
      for (int i = 0; i < kSpins && loops_.load() == *seen; ++i) Pause();
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return loops_.load() != *seen; });
      *seen = loops_.load();
      if (stopping_) return nullptr;
      if (job_ == nullptr) continue;  // it ended without this thread
      ++running_;
      return job_;
    }
  }

  std::mutex loop_mutex_;  // held during a ParallelFor
  std::mutex mutex_;       // guards what follows, and changes of the atomics
  std::condition_variable wake_;  // loops_ changed
  std::condition_variable done_;  // running_ became 0
  RangeJob* job_ = nullptr;       // that threads may join
  bool stopping_ = false;
  std::atomic<uint64_t> loops_{0};  // that were opened
  std::atomic<int> running_{0};     // threads that work on a job
  std::vector<std::thread> workers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ThreadPool>> CreateStdThreadPool(
    int num_threads) {
  if (num_threads < 1 || num_threads > 1024) {
    return InvalidInputError("number of threads: expected 1 to 1024, found ",
                             num_threads);
  }
  auto pool = std::make_unique<StdThreadPool>();
  try {
    pool->Start(num_threads - 1);
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start ", num_threads - 1, " threads (",
                     error.what(), "); try fewer"));
  }
  return pool;
}

}  // namespace qeff
