// SPDX-License-Identifier: Apache-2.0
//
// That a static program has the small definitions and still does the same is in
// static_device_test.sh, by its size and its tokens.

#include <stdexcept>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

struct Counter {
  absl::Mutex mutex;
  int count ABSL_GUARDED_BY(mutex) = 0;
};

TEST(UnlinkedPartsTest, OneThreadAtATimeHoldsTheMutex) {
  constexpr int kThreads = 4;
  constexpr int kTimes = 20000;
  Counter counter;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&counter] {
      for (int i = 0; i < kTimes; ++i) {
        absl::MutexLock lock(&counter.mutex);
        counter.mutex.AssertHeld();
        ++counter.count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  absl::MutexLock lock(&counter.mutex);
  EXPECT_EQ(counter.count, kThreads * kTimes);
}

TEST(UnlinkedPartsDeathTest, AMutexThatNobodyHolds) {
  absl::Mutex mutex;
  EXPECT_DEATH(mutex.AssertHeld(), "absl::Mutex is not held");
}

TEST(UnlinkedPartsDeathTest, AnExceptionThatNobodyCatchesIsNamed) {
  // GoogleTest would catch it before it could leave a thread of its own.
  EXPECT_DEATH(std::thread([] { throw std::logic_error(""); }).join(),
               "terminated by an exception of type St11logic_error");
}

}  // namespace
}  // namespace qeff
