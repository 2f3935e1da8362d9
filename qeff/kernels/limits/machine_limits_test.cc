// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/limits/machine_limits.h"

#include <cstdio>
#include <memory>

#include "gtest/gtest.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"

namespace qeff {
namespace {

TEST(MachineLimitsTest, Median) {
  EXPECT_EQ(Median({3}), 3);
  EXPECT_EQ(Median({9, 1, 5}), 5);
  EXPECT_EQ(Median({4, 1, 2, 3}), 3);
}

// Bytes of this process in memory of its own, from /proc/self/statm.
uint64_t ResidentBytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "re");
  if (file == nullptr) return 0;
  unsigned long long total = 0, resident = 0;
  const int read = std::fscanf(file, "%llu %llu", &total, &resident);
  std::fclose(file);
  return read == 2 ? resident * 4096 : 0;
}

TEST(MachineLimitsTest, MemoryToReadIsThere) {
  const uint64_t before = ResidentBytes();
  if (before == 0) GTEST_SKIP() << "no /proc";
  const AlignedArray<uint8_t> memory = MemoryToRead(size_t{64} << 20);
  EXPECT_GE(ResidentBytes(), before + (uint64_t{60} << 20));
}

// Rates of any machine that runs this lie between these.
TEST(MachineLimitsTest, RatesAreThoseOfAMachine) {
  const AlignedArray<uint8_t> memory = MemoryToRead(size_t{1} << 20);
  for (int threads : {1, 2}) {
    const std::unique_ptr<ThreadPool> pool = *CreateThreadPool(threads);
    const double peak =
        PeakRate(*pool, RunDotProducts, OperationsOfDotProducts());
    EXPECT_GT(peak, 1e7);
    EXPECT_LT(peak, 1e15);
    const double bandwidth = ReadBandwidth(*pool, memory.span());
    EXPECT_GT(bandwidth, 1e7);
    EXPECT_LT(bandwidth, 1e14);
  }
}

}  // namespace
}  // namespace qeff
