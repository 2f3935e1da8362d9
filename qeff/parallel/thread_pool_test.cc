// SPDX-License-Identifier: Apache-2.0

#include "qeff/parallel/thread_pool.h"

#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace qeff {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<int> {
 protected:
  int num_threads() const { return GetParam(); }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(GetParam());
};

TEST_P(ThreadPoolTest, CoversEveryIndexOnce) {
  EXPECT_EQ(pool_->num_threads(), num_threads());
  for (int64_t count : {0, 1, 7, 64, 1000}) {
    for (int64_t grain : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> seen(count);
      pool_->ParallelFor(count, grain,
                         [&](int64_t begin, int64_t end, int thread) {
                           EXPECT_LE(end - begin, grain);
                           EXPECT_GE(thread, 0);
                           EXPECT_LT(thread, num_threads());
                           for (int64_t i = begin; i < end; ++i) ++seen[i];
                         });
      for (const auto& n : seen) EXPECT_EQ(n, 1);
    }
  }
}

TEST_P(ThreadPoolTest, RethrowsInTheCaller) {
  EXPECT_THROW(pool_->ParallelFor(100, 1,
                                  [](int64_t begin, int64_t, int) {
                                    if (begin == 42) throw std::bad_alloc();
                                  }),
               std::bad_alloc);
  // The pool is usable afterwards.
  std::atomic<int> calls{0};
  pool_->ParallelFor(10, 1, [&](int64_t, int64_t, int) { ++calls; });
  EXPECT_EQ(calls, 10);
}

// No two ranges with the same number of thread at the same time, in many short
// loops one after another.
TEST_P(ThreadPoolTest, ThreadNumbersDoNotOverlap) {
  std::vector<std::atomic<int>> inside(static_cast<size_t>(num_threads()));
  std::atomic<int64_t> sum{0};
  for (int loop = 0; loop < 100; ++loop) {
    pool_->ParallelFor(8, 1, [&](int64_t begin, int64_t, int thread) {
      std::atomic<int>& mine = inside[static_cast<size_t>(thread)];
      EXPECT_EQ(mine.fetch_add(1), 0);
      sum += begin;
      mine.fetch_sub(1);
    });
  }
  EXPECT_EQ(sum, 100 * 28);
}

// A thread that is busy with one range keeps no other from being done.
TEST_P(ThreadPoolTest, ThreadsHelpOneAnother) {
  if (num_threads() == 1) GTEST_SKIP() << "no other thread";
  constexpr int kRanges = 64;
  std::atomic<int> done{0};
  pool_->ParallelFor(kRanges, 1, [&](int64_t begin, int64_t, int) {
    while (begin == 0 && done.load() < kRanges - 1) std::this_thread::yield();
    ++done;
  });
  EXPECT_EQ(done, kRanges);
}

TEST_P(ThreadPoolTest, ConcurrentCallersTakeTurns) {
  std::atomic<int64_t> sum{0};
  const auto call = [&] {
    for (int loop = 0; loop < 50; ++loop) {
      pool_->ParallelFor(10, 1,
                         [&](int64_t begin, int64_t, int) { sum += begin; });
    }
  };
  std::thread other(call);
  call();
  other.join();
  EXPECT_EQ(sum, 2 * 50 * 45);
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 5));

TEST(CreateThreadPoolTest, RefusesAbsurdSizes) {
  EXPECT_FALSE(CreateThreadPool(0).ok());
  EXPECT_FALSE(CreateThreadPool(1025).ok());
  EXPECT_GE(NumAvailableProcessors(), 1);
}

TEST(BalancedGrainTest, KeepsTheMinimum) {
  EXPECT_EQ(BalancedGrain(1600, 2, 1), 100);
  EXPECT_EQ(BalancedGrain(10, 4, 64), 64);
}

}  // namespace
}  // namespace qeff
