// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/limits/machine_limits.h"

#include <memory>

#include "gtest/gtest.h"
#include "qeff/kernels/matmul_int/matmul_int_peak.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace {

TEST(MachineLimitsTest, Median) {
  EXPECT_EQ(Median({3}), 3);
  EXPECT_EQ(Median({9, 1, 5}), 5);
  EXPECT_EQ(Median({4, 1, 2, 3}), 3);
}

// Rates of any machine that runs this lie between these.
TEST(MachineLimitsTest, RatesAreThoseOfAMachine) {
  const AlignedArray<uint8_t> memory(size_t{1} << 20);
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
