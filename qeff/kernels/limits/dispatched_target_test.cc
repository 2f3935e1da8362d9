// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/limits/dispatched_target.h"

#include "gtest/gtest.h"
#include "hwy/highway.h"

namespace qeff {
namespace {

TEST(DispatchedTargetTest, IsTheOneThatIsChosen) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    EXPECT_EQ(DispatchedTargetName(), hwy::TargetName(target));
  }
  hwy::SetSupportedTargetsForTest(0);
  const int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
  EXPECT_EQ(DispatchedTargetName(), hwy::TargetName(all & -all));
}

TEST(DispatchedTargetTest, Version) { EXPECT_GE(HighwayVersion(), "1.0.0"); }

}  // namespace
}  // namespace qeff
