// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/cpu_check.h"

#include "gtest/gtest.h"

namespace qeff {
namespace {

// What a processor without them does is in static_device_test.sh.
TEST(CpuCheckTest, ThisProcessorRunsThisProgram) {
  EXPECT_EQ(FindMissingInCpu(kCompiledFor), nullptr);
  EXPECT_EQ(FindMissingInCpu(CompiledFor()), nullptr);
}

TEST(CpuCheckTest, TheMacrosNameAnArchitecture) {
#if defined(__x86_64__)
  EXPECT_GE(kCompiledFor.x86_64_level, 1);
  EXPECT_FALSE(kCompiledFor.arm_dot_product);
#else
  EXPECT_EQ(kCompiledFor.x86_64_level, 0);
#endif
}

}  // namespace
}  // namespace qeff
