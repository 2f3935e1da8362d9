// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/machine.h"

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(MachineTest, ReadsTheProcessorsName) {
  EXPECT_EQ(ProcessorNameIn("processor\t: 0\nmodel name\t: AMD: EPYC 9\n"),
            "AMD: EPYC 9");
  EXPECT_EQ(ProcessorNameIn("processor\t: 0\nmodel name\n"), "unknown");
  EXPECT_EQ(ProcessorNameIn(""), "unknown");
}

TEST(MachineTest, ReadsTheMemory) {
  const MemoryState memory = MemoryIn(
      "MemTotal:       16 kB\nMemFree:  1 kB\nMemAvailable:    5 kB\n");
  EXPECT_EQ(memory.total_bytes, 16384u);
  EXPECT_EQ(memory.available_bytes, 5120u);
  EXPECT_EQ(MemoryIn("MemTotal: x kB\nMemTotal:").total_bytes, 0u);
}

TEST(MachineTest, ReadsTheLimitOfAControlGroup) {
  EXPECT_EQ(*MemoryLimitIn("4096\n"), 4096u);
  EXPECT_FALSE(MemoryLimitIn("max\n").has_value());
  EXPECT_FALSE(MemoryLimitIn("").has_value());
}

TEST(MachineTest, ThisMachineHasMemory) {
  const MemoryState memory = Memory();
  EXPECT_GT(memory.total_bytes, uint64_t{64} << 20);
  EXPECT_GT(memory.available_bytes, 0u);
  EXPECT_LE(memory.available_bytes, memory.total_bytes);
}

TEST(MachineTest, LaterFeaturesComeWithEarlierOnes) {
  bool avx2 = false, avx512f = false;
  for (const ProcessorFeature& feature : ProcessorFeatures()) {
    if (feature.name == "avx2") avx2 = feature.is_there;
    if (feature.name == "avx512f") avx512f = feature.is_there;
  }
  EXPECT_TRUE(avx2 || !avx512f);
}

}  // namespace
}  // namespace qeff
