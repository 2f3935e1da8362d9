// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/memory_guard.h"

#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

TEST(GuardMemoryTest, TurnsBadAllocIntoAStatus) {
  EXPECT_EQ(
      GuardMemory([]() -> absl::Status { throw std::bad_alloc(); }).code(),
      absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GuardMemory([]() -> absl::StatusOr<int> { return 3; }).value(), 3);
}

TEST(GuardMemoryTest, AlsoFromWorkers) {
  const auto pool = *CreateThreadPool(3);
  EXPECT_EQ(GuardMemory([&]() -> absl::StatusOr<int> {
              pool->ParallelFor(30, 1, [](int64_t begin, int64_t, int) {
                if (begin == 20) throw std::bad_alloc();
              });
              return 1;
            })
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace qeff
