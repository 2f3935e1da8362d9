// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/memory_guard.h"

#include <new>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(GuardMemoryTest, TurnsBadAllocIntoAStatus) {
  EXPECT_EQ(
      GuardMemory([]() -> absl::Status { throw std::bad_alloc(); }).code(),
      absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GuardMemory([]() -> absl::StatusOr<int> { return 3; }).value(), 3);
}

}  // namespace
}  // namespace qeff
