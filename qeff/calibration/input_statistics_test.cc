// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/input_statistics.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

Matrix<float> RandomRows(int64_t rows, int64_t cols) {
  Matrix<float> x(rows, cols);
  const Random random(3);
  for (int64_t i = 0; i < rows * cols; ++i) {
    x.data()[i] = random.NormalAt(static_cast<uint64_t>(i)) +
                  (i % cols == 1 ? 2.0f : 0.0f);
  }
  return x;
}

// Added in pieces of `piece` rows.
InputStatistics Collect(const Matrix<float>& x, int64_t piece, int threads) {
  const auto pool = CreateThreadPool(threads).value();
  InputStatistics statistics(x.cols());
  for (int64_t r = 0; r < x.rows(); r += piece) {
    statistics.Add(x.view().Rows(r, std::min(piece, x.rows() - r)), *pool);
  }
  return statistics;
}

TEST(InputStatisticsTest, EqualsTheFormulas) {
  // More features than a tile, more rows than a chunk.
  const Matrix<float> x = RandomRows(2500, 530);
  InputStatistics statistics = Collect(x, 2300, 2);
  EXPECT_EQ(statistics.rows(), 2500);
  EXPECT_TRUE(statistics.finite());
  for (const int64_t j : {0, 1, 529}) {
    double sum = 0, largest = 0;
    for (int64_t r = 0; r < x.rows(); ++r) {
      const double magnitude = std::abs(static_cast<double>(x.row(r)[j]));
      sum += magnitude;
      largest = std::max(largest, magnitude);
    }
    EXPECT_DOUBLE_EQ(statistics.abs_sums()[static_cast<size_t>(j)], sum);
    EXPECT_EQ(statistics.abs_maxima()[static_cast<size_t>(j)], largest);
  }
  const Matrix<float> hessian = statistics.TakeHessian();
  for (const int64_t i : {0, 1, 5, 511, 512, 529}) {
    for (int64_t j = i; j < x.cols(); j += 13) {
      double sum = 0, magnitudes = 0;
      for (int64_t r = 0; r < x.rows(); ++r) {
        const double product =
            static_cast<double>(x.row(r)[i]) * static_cast<double>(x.row(r)[j]);
        sum += product;
        magnitudes += std::abs(product);
      }
      // Runs of 256 products: sgemm.h, and one rounding of the mean.
      EXPECT_NEAR(hessian.row(i)[j], sum / 2500,
                  2 * (256 + 8 + 2) * 0x1p-24 * magnitudes / 2500)
          << i << ", " << j;
    }
  }
}

// Tiles of 512 features with one thread, of 128 with more.
TEST(InputStatisticsTest, SameBitsForAnyNumberOfThreads) {
  const Matrix<float> x = RandomRows(300, 700);
  InputStatistics one = Collect(x, 100, 1);
  InputStatistics two = Collect(x, 100, 2);
  InputStatistics many_then_one(700);
  const auto many = CreateThreadPool(9).value();
  many_then_one.Add(x.view().Rows(0, 100), *many);
  const auto single = CreateThreadPool(1).value();
  many_then_one.Add(x.view().Rows(100, 100), *single);
  many_then_one.Add(x.view().Rows(200, 100), *many);
  EXPECT_EQ(one.abs_sums(), two.abs_sums());
  const Matrix<float> expected = one.TakeHessian();
  for (InputStatistics* other : {&two, &many_then_one}) {
    const Matrix<float> hessian = other->TakeHessian();
    for (int64_t i = 0; i < 700; ++i) {
      for (int64_t j = i; j < 700; ++j) {
        ASSERT_EQ(hessian.row(i)[j], expected.row(i)[j]) << i << ", " << j;
      }
    }
  }
}

TEST(InputStatisticsTest, Gaps) {
  const auto pool = CreateThreadPool(2).value();
  const Matrix<float> x = RandomRows(50, 20), gap = RandomRows(50, 20);
  const Matrix<float> residual = RandomRows(50, 3);
  InputStatistics statistics(20);
  for (int64_t r = 0; r < 50; r += 25) {
    const auto rows = x.view().Rows(r, 25);
    statistics.Add(rows, *pool);
    statistics.AddGap(rows, gap.view().Rows(r, 25), residual.view().Rows(r, 25),
                      *pool);
  }
  const Matrix<float> g = statistics.TakeInputGap();
  const Matrix<float> r = statistics.TakeResidualGap();
  ASSERT_EQ(g.rows(), 20);
  ASSERT_EQ(r.rows(), 3);
  ASSERT_EQ(r.cols(), 20);
  double sum = 0, residual_sum = 0;
  for (int64_t t = 0; t < 50; ++t) {
    sum +=
        static_cast<double>(gap.row(t)[4]) * static_cast<double>(x.row(t)[7]);
    residual_sum += static_cast<double>(residual.row(t)[2]) *
                    static_cast<double>(x.row(t)[7]);
  }
  EXPECT_NEAR(g.row(4)[7], sum / 50, 1e-5);
  EXPECT_NEAR(r.row(2)[7], residual_sum / 50, 1e-5);
  EXPECT_TRUE(InputStatistics(5).TakeInputGap().empty());
}

TEST(InputStatisticsTest, NotFinite) {
  Matrix<float> x = RandomRows(3, 4);
  EXPECT_TRUE(Collect(x, 3, 1).finite());
  x.row(1)[2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(Collect(x, 3, 1).finite());
  x.row(1)[2] = -std::numeric_limits<float>::infinity();
  EXPECT_FALSE(Collect(x, 3, 1).finite());
}

TEST(InputStatisticsTest, NoRows) {
  InputStatistics statistics(5);
  const Matrix<float> hessian = statistics.TakeHessian();
  EXPECT_EQ(hessian.row(0)[4], 0);
}

}  // namespace
}  // namespace qeff
