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

// Which loop is open, if any, and how many workers are in it, in one word:
// workers join and leave, and loops open and close, without a lock.
class Gate {
 public:
  using Word = uint64_t;

  static constexpr uint64_t Loop(Word word) { return word >> kLoopShift; }
  static constexpr bool IsOpen(Word word) { return (word & kOpen) != 0; }
  static constexpr uint64_t Workers(Word word) { return word & (kOpen - 1); }

  Word Load() const { return word_.load(); }

  // The next loop. No worker may be in the last one.
  void Open() { word_.store(Next() | kOpen); }
  // Tells waiting workers that there is something new, which is not a loop.
  void Skip() { word_.store(Next()); }

  // Nobody enters any more.
  void Close() { word_.fetch_and(~kOpen); }

  // Enters the loop of `word`; false if something has changed since.
  bool Enter(Word word) {
    return word_.compare_exchange_strong(word, word + 1);
  }

  // Returns what is left behind.
  Word Leave() { return word_.fetch_sub(1) - 1; }

 private:
  static constexpr Word kOpen = 1 << 16;  // workers count below
  static constexpr int kLoopShift = 17;

  Word Next() const { return (Loop(word_.load()) + 1) << kLoopShift; }

  std::atomic<Word> word_{0};
};

class StdThreadPool : public ThreadPool {
 public:
  ~StdThreadPool() override {
    stopping_ = true;
    gate_.Skip();
    WakeWorkers();
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
    job_ = &job;
    gate_.Open();
    WakeWorkers();
    job.Run(/*thread=*/0);
    Close();
    job.Rethrow();
  }

 private:
  // Who goes to sleep says so before he looks at the gate for the last time, so
  // either he sees the change or is seen here.
  void WakeWorkers() {
    if (sleeping_workers_.load() == 0) return;
    { std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }

  // No worker joins any more; waits for those that have.
  void Close() {
    gate_.Close();
    for (int i = 0; i < kSpins && Gate::Workers(gate_.Load()) != 0; ++i) {
      Pause();
    }
    if (Gate::Workers(gate_.Load()) == 0) return;
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_ = true;
    done_.wait(lock, [this] { return Gate::Workers(gate_.Load()) == 0; });
    caller_sleeps_ = false;
  }

  void Work(int thread) {
    uint64_t seen = 0;  // loops
    while (RangeJob* job = Join(&seen)) {
      job->Run(thread);
      // The caller may be gone once the last has left, but not the pool.
      if (Gate::Workers(gate_.Leave()) != 0 || !caller_sleeps_.load()) continue;
      { std::lock_guard<std::mutex> lock(mutex_); }
      done_.notify_one();
    }
  }

  // The loop that is open, waiting for one after `*seen`; null to stop.
  RangeJob* Join(uint64_t* seen) {
    for (;;) {
      const Gate::Word word = NextWord(*seen);
      if (stopping_.load()) return nullptr;
      if (!Gate::IsOpen(word)) {
        *seen = Gate::Loop(word);  // it ended without this thread
      } else if (gate_.Enter(word)) {
        *seen = Gate::Loop(word);
        return job_;
      }
    }
  }

  // Waits until the gate's loop is not `seen`.
  Gate::Word NextWord(uint64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      const Gate::Word word = gate_.Load();
      if (Gate::Loop(word) != seen) return word;
      Pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleeping_workers_;
    wake_.wait(lock, [&] { return Gate::Loop(gate_.Load()) != seen; });
    --sleeping_workers_;
    return gate_.Load();
  }

  std::mutex loop_mutex_;  // held during a ParallelFor
  std::vector<Share> shares_;
  RangeJob* job_ = nullptr;  // of the loop that is open, for who has entered
  alignas(64) Gate gate_;
  alignas(64) std::atomic<bool> stopping_{false};
  std::mutex mutex_;              // held by who goes to sleep, until he does
  std::condition_variable wake_;  // the gate has another loop
  std::condition_variable done_;  // the last worker has left
  std::atomic<int> sleeping_workers_{0};
  std::atomic<bool> caller_sleeps_{false};
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
