// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/magnitude_histogram.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

class MagnitudeHistogramTest : public ::testing::Test {
 protected:
  void Add(const std::vector<float>& values, MagnitudeHistogram* histogram) {
    Matrix<float> rows(1, static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) rows.row(0)[i] = values[i];
    histogram->Add(rows.view(), *pool_);
  }

  std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
};

TEST_F(MagnitudeHistogramTest, CountsInBinsThatBeginAtZero) {
  MagnitudeHistogram histogram;
  EXPECT_EQ(histogram.total(), 0u);
  EXPECT_EQ(histogram.width(), 0);
  Add({0, -0.0f}, &histogram);
  EXPECT_EQ(histogram.width(), 0);
  EXPECT_EQ(histogram.counts()[0], 2u);
  // Of 4.
  Add({3, -2, 1.0f / 1024, -1.0f / 2048}, &histogram);
  EXPECT_EQ(histogram.width(), 4.0 / 4096);
  EXPECT_EQ(histogram.largest(), 3);
  EXPECT_EQ(histogram.counts()[3072], 1u);
  EXPECT_EQ(histogram.counts()[2048], 1u);
  EXPECT_EQ(histogram.counts()[1], 1u);
  EXPECT_EQ(histogram.counts()[0], 3u);
  // A power of two is the lower edge of a bin: the range is of 8.
  Add({4}, &histogram);
  EXPECT_EQ(histogram.width(), 8.0 / 4096);
  EXPECT_EQ(histogram.counts()[2048], 1u);
  EXPECT_EQ(histogram.counts()[1536], 1u);
  EXPECT_EQ(histogram.counts()[0], 4u);
  EXPECT_EQ(histogram.total(), 7u);
}

TEST_F(MagnitudeHistogramTest, ExtremesAndWhatIsNotFinite) {
  constexpr float kMax = std::numeric_limits<float>::max();
  MagnitudeHistogram histogram;
  Add({std::numeric_limits<float>::quiet_NaN(),
       -std::numeric_limits<float>::infinity()},
      &histogram);
  EXPECT_EQ(histogram.total(), 0u);
  Add({0x1p-149f}, &histogram);
  EXPECT_EQ(histogram.counts()[2048], 1u);
  Add({kMax}, &histogram);
  EXPECT_EQ(histogram.counts()[0], 1u);
  EXPECT_EQ(histogram.counts()[4095], 1u);
  EXPECT_EQ(histogram.largest(), kMax);
}

// Neither the order nor the number of threads shows.
TEST_F(MagnitudeHistogramTest, DependsOnWhatWasAddedOnly) {
  constexpr int64_t kRows = 300, kCols = 7;
  Matrix<float> rows(kRows, kCols);
  const Random random(1);
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    // Ranges that grow from row to row.
    rows.data()[i] = random.NormalAt(static_cast<uint64_t>(i)) *
                     std::exp(0.05f * static_cast<float>(i / kCols));
  }
  MagnitudeHistogram whole, pieces, backwards;
  whole.Add(rows.view(), *pool_);
  const auto one = CreateThreadPool(1).value();
  for (int64_t r = 0; r < kRows; r += 30) {
    pieces.Add(rows.view().Rows(r, 30), *one);
    backwards.Add(rows.view().Rows(kRows - 30 - r, 30), *pool_);
  }
  EXPECT_EQ(whole.total(), static_cast<uint64_t>(kRows * kCols));
  for (const MagnitudeHistogram* other : {&pieces, &backwards}) {
    EXPECT_EQ(other->counts(), whole.counts());
    EXPECT_EQ(other->width(), whole.width());
    EXPECT_EQ(other->largest(), whole.largest());
  }
  // At least half of the bins are used.
  EXPECT_GE(static_cast<double>(whole.largest()) / whole.width(), 2048);
}

}  // namespace
}  // namespace qeff
