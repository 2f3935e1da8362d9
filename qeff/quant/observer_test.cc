// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/observer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

class ObserverTest : public ::testing::Test {
 protected:
  MagnitudeHistogram Count(const std::vector<float>& values) const {
    Matrix<float> row(1, static_cast<int64_t>(values.size()));
    std::copy(values.begin(), values.end(), row.row(0));
    MagnitudeHistogram histogram;
    histogram.Add(row.view(), *pool_);
    return histogram;
  }

  const std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
};

double Error(const std::vector<float>& values, double scale) {
  double error = 0;
  for (const float value : values) {
    const double x = std::abs(static_cast<double>(value));
    const double d = x - std::min(std::nearbyint(x / scale), 127.0) * scale;
    error += d * d;
  }
  return error;
}

std::vector<float> NormalValues(int count) {
  std::vector<float> values;
  const Random random(2);
  for (int i = 0; i < count; ++i) {
    values.push_back(random.NormalAt(static_cast<uint64_t>(i)));
  }
  return values;
}

TEST_F(ObserverTest, Names) {
  for (const Observer observer :
       {Observer::kMinMax, Observer::kPercentile, Observer::kMse}) {
    EXPECT_EQ(ParseObserver(ObserverName(observer)).value(), observer);
  }
  EXPECT_EQ(ParseObserver("max").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ObserverTest, OutliersAreWhatTheyDifferIn) {
  std::vector<float> values = NormalValues(50000);
  for (int i = 0; i < 4; ++i) values.push_back(-100);  // 0.008 %
  const MagnitudeHistogram histogram = Count(values);
  const float minmax = ObservedScale(histogram, Observer::kMinMax);
  EXPECT_EQ(minmax, 100.0f / 127);
  // All but five of the largest: of the normal ones, one or two are cut off.
  const double cut = 127 * static_cast<double>(
                               ObservedScale(histogram, Observer::kPercentile));
  EXPECT_GT(cut, 3);
  EXPECT_LT(cut, 5);
  // The error of the few is large: cut off they would cost more than the rest.
  const float mse = ObservedScale(histogram, Observer::kMse);
  EXPECT_GT(mse, 0.5f * minmax);
  EXPECT_LE(mse, minmax);
}

// Within 2 % of the least error over a fine grid, on the values themselves.
TEST_F(ObserverTest, MseIsTheLeastError) {
  std::vector<float> values = NormalValues(20000);
  for (const float outlier : {0.0f, 6.0f, 20.0f, 40.0f}) {
    values.push_back(outlier);
    const MagnitudeHistogram histogram = Count(values);
    const float mse = ObservedScale(histogram, Observer::kMse);
    double least = std::numeric_limits<double>::infinity();
    const double largest = static_cast<double>(histogram.largest());
    for (double cut = 0.01 * largest; cut <= largest; cut += 0.002 * largest) {
      least = std::min(least, Error(values, cut / 127));
    }
    EXPECT_LE(Error(values, static_cast<double>(mse)), 1.02 * least) << outlier;
    EXPECT_LE(Error(values, static_cast<double>(mse)),
              1.0001 * Error(values, largest / 127));
  }
}

TEST_F(ObserverTest, AlwaysAScale) {
  for (const Observer observer :
       {Observer::kMinMax, Observer::kPercentile, Observer::kMse}) {
    EXPECT_EQ(ObservedScale(MagnitudeHistogram(), observer), 1);
    EXPECT_EQ(ObservedScale(Count({0, 0}), observer), 1);
    for (const float value :
         {0x1p-149f, 1.0f, std::numeric_limits<float>::max()}) {
      const float scale = ObservedScale(Count({value, 0}), observer);
      EXPECT_TRUE(IsActivationScale(scale)) << value << " " << scale;
    }
    // All the same: no error.
    EXPECT_NEAR(ObservedScale(Count({-2, 2, 2}), observer), 2.0f / 127, 1e-4f);
  }
}

}  // namespace
}  // namespace qeff
