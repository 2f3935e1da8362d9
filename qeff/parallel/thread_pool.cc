// SPDX-License-Identifier: Apache-2.0

#include "qeff/parallel/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using LoopBody = absl::FunctionRef<void(int64_t, int64_t, int)>;

void RunSequentially(int64_t count, int64_t grain, LoopBody body) {
  for (int64_t begin = 0; begin < count; begin += grain) {
    body(begin, std::min(begin + grain, count), 0);
  }
}

// Ranges that a thread begins with, on a cache line of its own.
struct alignas(64) Share {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

// Each thread begins with a share of consecutive ranges, so that what it reads
// is one stream, and then helps the others. Thread-safe.
class RangeJob {
 public:
  // One share a thread, of no other job at the time.
  RangeJob(int64_t count, int64_t grain, LoopBody body,
           absl::Span<Share> shares)
      : count_(count), grain_(grain), body_(body), shares_(shares) {
    const int64_t ranges = CeilDiv(count, grain);
    const int64_t threads = static_cast<int64_t>(shares.size());
    const int64_t each = ranges / threads, more = ranges % threads;
    int64_t begin = 0;
    for (int64_t i = 0; i < threads; ++i) {
      Share& share = shares_[static_cast<size_t>(i)];
      share.next.store(begin, std::memory_order_relaxed);
      begin += each + (i < more ? 1 : 0);
      share.end = begin;
    }
  }

  // Takes ranges until none is left, as thread number `thread`.
  void Run(int thread) {
    const size_t own = static_cast<size_t>(thread);
    try {
      for (size_t i = own; i < shares_.size(); ++i) RunShare(i, thread);
      for (size_t i = 0; i < own; ++i) RunShare(i, thread);
    } catch (...) {
      // The others stop after their current range.
      for (Share& share : shares_) share.next = share.end;
      std::lock_guard<std::mutex> lock(mutex_);
      if (exception_ == nullptr) exception_ = std::current_exception();
    }
  }

  // Throws what the first failing range threw. All threads have left Run.
  void Rethrow() {
    if (exception_ != nullptr) std::rethrow_exception(exception_);
  }

 private:
  void RunShare(size_t index, int thread) {
    Share& share = shares_[index];
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const int64_t range = share.next.fetch_add(1);
      if (range >= share.end) return;
      const int64_t begin = range * grain_;
      body_(begin, std::min(begin + grain_, count_), thread);
    }
  }

  const int64_t count_;
  const int64_t grain_;
  const LoopBody body_;
  const absl::Span<Share> shares_;
  std::mutex mutex_;
  std::exception_ptr exception_;  // guarded by mutex_
};

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
    shares_ = std::vector<Share>(static_cast<size_t>(num_workers) + 1);
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
      return RunSequentially(count, grain, body);
    }
    std::lock_guard<std::mutex> one_loop_at_a_time(loop_mutex_);
    RangeJob job(count, grain, body, absl::MakeSpan(shares_));
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
  std::vector<Share> shares_;
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

absl::StatusOr<std::unique_ptr<ThreadPool>> CreateThreadPool(int num_threads) {
  if (num_threads < 1 || num_threads > 1024) {
    return InvalidInputError("number of threads: expected 1 to 1024, found ",
                             num_threads);
  }
  return GuardMemory([&]() -> absl::StatusOr<std::unique_ptr<ThreadPool>> {
    auto pool = std::make_unique<StdThreadPool>();
    try {
      pool->Start(num_threads - 1);
    } catch (const std::system_error& error) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot start ", num_threads - 1, " threads (",
                       error.what(), "); try fewer"));
    }
    return pool;
  });
}

int NumAvailableProcessors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

int64_t BalancedGrain(int64_t count, int num_threads, int64_t min_grain) {
  return std::max(min_grain,
                  CeilDiv(count, static_cast<int64_t>(num_threads) * 8));
}

}  // namespace qeff
