// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/hadamard.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

Matrix<float> Normal(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix<float> matrix(rows, cols);
  const Random random(seed);
  for (size_t i = 0; i < matrix.span().size(); ++i) {
    matrix.data()[i] = random.NormalAt(i);
  }
  return matrix;
}

// R itself, in float32.
Matrix<float> Dense(const Hadamard& rotation, ThreadPool& pool) {
  Matrix<float> identity(rotation.size(), rotation.size());
  for (int64_t i = 0; i < rotation.size(); ++i) identity.row(i)[i] = 1;
  rotation.RotateRows(identity.view(), pool);
  return identity;
}

class HadamardTest : public ::testing::Test {
 protected:
  std::unique_ptr<ThreadPool> pool_ = CreateThreadPool(2).value();
};

TEST(PaleyHadamardTest, RowsAreOrthogonal) {
  int found = 0;
  for (int64_t n = 1; n <= 160; ++n) {
    const std::vector<int8_t> h = PaleyHadamard(n);
    if (h.empty()) continue;
    ++found;
    ASSERT_EQ(h.size(), static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        int64_t product = 0;
        for (int64_t k = 0; k < n; ++k) {
          const int a = h[static_cast<size_t>(i * n + k)];
          ASSERT_EQ(a * a, 1);
          product += a * h[static_cast<size_t>(j * n + k)];
        }
        ASSERT_EQ(product, i == j ? n : 0) << n << ": " << i << ", " << j;
      }
    }
  }
  // 1, 2, and 24 of the 40 multiples of 4.
  EXPECT_EQ(found, 26);
  for (int64_t n : {12, 20, 28, 36, 44, 60, 84, 100}) {
    EXPECT_EQ(PaleyHadamard(n).empty(), n == 100) << n;
  }
}

TEST_F(HadamardTest, BlocksOfSizes) {
  const std::vector<std::vector<int64_t>> sizes = {
      {1, 1},       {2, 2},       {7, 1},       {10, 2},      {16, 16},
      {48, 48},     {64, 64},     {80, 80},     {96, 96},     {172, 4},
      {192, 192},   {288, 288},   {576, 576},   {768, 768},   {896, 896},
      {1152, 1152}, {1536, 1536}, {2048, 2048}, {2560, 2560}, {3584, 3584}};
  for (const std::vector<int64_t>& size : sizes) {
    EXPECT_EQ(Hadamard(size[0], 0, 0).block(), size[1]) << size[0];
  }
}

// Elements are +-1/sqrt(block) or 0, and R R^T is the identity.
TEST_F(HadamardTest, IsOrthogonal) {
  for (int64_t n : {1, 2, 6, 16, 20, 48, 72, 80, 172, 288}) {
    SCOPED_TRACE(n);
    const Hadamard rotation(n, 5, 1);
    const Matrix<float> dense = Dense(rotation, *pool_);
    const double element = 1 / std::sqrt(static_cast<double>(rotation.block()));
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const bool inside = i / rotation.block() == j / rotation.block();
        ASSERT_NEAR(std::abs(dense.row(i)[j]), inside ? element : 0, 1e-7);
        double product = 0;
        for (int64_t k = 0; k < n; ++k) {
          product += double{dense.row(i)[k]} * dense.row(j)[k];
        }
        ASSERT_NEAR(product, i == j ? 1 : 0, 2e-7) << i << ", " << j;
      }
    }
  }
}

// Against a product with the dense matrix in double; runs of a row, and views
// with a stride.
TEST_F(HadamardTest, AgreesWithTheDenseMatrix) {
  for (int64_t n : {16, 36, 40, 96}) {
    SCOPED_TRACE(n);
    const Hadamard rotation(n, 9, 2);
    const Matrix<float> dense = Dense(rotation, *pool_);
    const int64_t others = 37, runs = 3;
    const Matrix<float> before = Normal(others, n * runs, 3);
    Matrix<float> padded(others, n * runs + 5);
    Matrix<float> turned(n * runs, others);
    for (int64_t r = 0; r < others; ++r) {
      for (int64_t c = 0; c < n * runs; ++c) {
        padded.row(r)[c] = turned.row(c)[r] = before.row(r)[c];
      }
    }
    rotation.RotateRows(padded.view().Cols(0, n * runs), *pool_);
    rotation.RotateColumns(turned.view(), *pool_);
    for (int64_t r = 0; r < others; ++r) {
      for (int64_t c = 0; c < n * runs; ++c) {
        double expected = 0;
        for (int64_t i = 0; i < n; ++i) {
          expected +=
              double{before.row(r)[c / n * n + i]} * dense.row(i)[c % n];
        }
        // Both are off by roundings of 2^-24: the dense elements, whose
        // errors add up to 2^-24 |x| / sqrt(n) a term, and the result.
        ASSERT_NEAR(padded.row(r)[c], expected, 5 * 1.2e-7) << r << ", " << c;
        ASSERT_EQ(turned.row(c)[r], padded.row(r)[c]) << r << ", " << c;
      }
      for (int64_t c = n * runs; c < padded.cols(); ++c) {
        ASSERT_EQ(padded.row(r)[c], 0);
      }
    }
  }
}

TEST_F(HadamardTest, TheSameBitsForAnyPool) {
  const Hadamard rotation(96, 1, 0);
  Matrix<float> one = Normal(50, 96, 1), four = Normal(50, 96, 1);
  rotation.RotateRows(one.view(), *CreateThreadPool(1).value());
  rotation.RotateRows(four.view(), *CreateThreadPool(4).value());
  EXPECT_EQ(std::memcmp(one.data(), four.data(), 50 * 96 * sizeof(float)), 0);
}

// A channel that is 100 times as large as the others.
TEST_F(HadamardTest, SpreadsOutliers) {
  const int64_t n = 256;
  Matrix<float> x = Normal(64, n, 4);
  for (int64_t r = 0; r < x.rows(); ++r) x.row(r)[17] *= 100;
  const auto peak = [&] {  // root mean square 1, largest
    double largest = 0, squares = 0;
    for (const float value : x.span()) {
      largest = std::max(largest, std::abs(double{value}));
      squares += double{value} * value;
    }
    return largest / std::sqrt(squares / (64 * n));
  };
  EXPECT_GT(peak(), 20);
  Hadamard(n, 0, 0).RotateRows(x.view(), *pool_);
  EXPECT_LT(peak(), 5);
}

TEST_F(HadamardTest, SignsDependOnSeedAndStream) {
  const Matrix<float> a = Dense(Hadamard(16, 1, 0), *pool_);
  const auto differs = [&](uint64_t seed, uint64_t stream) {
    const Matrix<float> b = Dense(Hadamard(16, seed, stream), *pool_);
    return std::memcmp(a.data(), b.data(), 256 * sizeof(float)) != 0;
  };
  EXPECT_FALSE(differs(1, 0));
  EXPECT_TRUE(differs(2, 0));
  EXPECT_TRUE(differs(1, 1));
}

}  // namespace
}  // namespace qeff
