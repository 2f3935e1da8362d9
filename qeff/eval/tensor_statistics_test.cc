// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/tensor_statistics.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

TensorView ViewOf(const std::vector<float>& values) {
  return {DType::kF32, Shape({static_cast<int64_t>(values.size())}),
          absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values.data()),
                              values.size() * sizeof(float))};
}

TEST(TensorStatisticsTest, ByHandAndNotFinite) {
  const auto pool = *CreateThreadPool(1);
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {1, -3, inf, 2, std::nanf("")};
  const TensorStatistics s =
      ComputeStatistics(ViewOf(values), pool.get(), [](const TensorView&) {});
  EXPECT_EQ(s.mean, 0.0);
  EXPECT_DOUBLE_EQ(s.standard_deviation, std::sqrt(14.0 / 3));
  EXPECT_EQ(s.max_abs, 3.0);
  EXPECT_EQ(s.not_finite, 2);
}

TEST(TensorStatisticsTest, SameForAnyThreadsAndReadsEachByteOnce) {
  std::vector<float> values(3'000'000);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = Random(1).NormalAt(i) + 1;
  }
  TensorStatistics results[2];
  for (int threads : {1, 2}) {
    const auto pool = *CreateThreadPool(threads);
    std::atomic<size_t> bytes{0};
    results[threads - 1] = ComputeStatistics(
        ViewOf(values), pool.get(),
        [&](const TensorView& v) { bytes += v.bytes.size(); });
    EXPECT_EQ(bytes, values.size() * sizeof(float));
  }
  EXPECT_EQ(results[0].mean, results[1].mean);
  EXPECT_EQ(results[0].standard_deviation, results[1].standard_deviation);
  // Five standard errors of 1 / sqrt(3e6).
  EXPECT_NEAR(results[0].mean, 1.0, 0.003);
  EXPECT_NEAR(results[0].standard_deviation, 1.0, 0.003);
}

TEST(TensorStatisticsTest, Empty) {
  const auto pool = *CreateThreadPool(1);
  EXPECT_EQ(ComputeStatistics(ViewOf({}), pool.get(), [](const TensorView&) {})
                .max_abs,
            0.0);
}

}  // namespace
}  // namespace qeff
