// SPDX-License-Identifier: Apache-2.0

#include "qeff/xnnpack/packed_linear.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

// `rows` + 1 rows, so that kReadBeyondElems elements behind are readable.
Matrix<float> RandomMatrix(int64_t rows, int64_t cols, uint64_t stream) {
  Matrix<float> m(rows + 1, std::max<int64_t>(cols, 4));
  const Random random(/*seed=*/7, stream);
  for (int64_t i = 0; i < rows * cols; ++i) {
    m.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
  }
  return m;
}

struct Product {
  int64_t rows, in, out;
  Matrix<float> x = RandomMatrix(rows, in, 1);
  Matrix<float> w = RandomMatrix(out, in, 2);
  Matrix<float> b = RandomMatrix(1, out, 3);

  MatrixView<const float> input() const { return {x.data(), rows, in}; }
  MatrixView<const float> weight() const { return {w.data(), out, in}; }
  absl::Span<const float> bias(bool used) const {
    return used ? absl::MakeConstSpan(b.data(), static_cast<size_t>(out))
                : absl::Span<const float>();
  }
};

// Every element against a double sum. A float32 sum of n products plus a bias
// in any order is off by at most (n + 1) eps/2 * sum |terms| to first order
// (Higham, Accuracy and Stability, 3.1; eps = 2^-23).
void ExpectClose(const Product& p, bool with_bias, const Matrix<float>& y) {
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t c = 0; c < p.out; ++c) {
      double sum = with_bias ? p.b.data()[c] : 0.0;
      double magnitude = std::abs(sum);
      for (int64_t k = 0; k < p.in; ++k) {
        const double term = static_cast<double>(p.input().row(r)[k]) *
                            static_cast<double>(p.weight().row(c)[k]);
        sum += term;
        magnitude += std::abs(term);
      }
      const double tolerance =
          std::ldexp(1.01 * static_cast<double>(p.in + 1) * magnitude, -24);
      ASSERT_NEAR(y.row(r)[c], sum, tolerance)
          << "row " << r << " column " << c << " of " << p.rows << "x" << p.in
          << "x" << p.out;
    }
  }
}

TEST(PackedLinearTest, AgreesWithADoubleReference) {
  const auto pool = *CreateThreadPool(2);
  for (int64_t rows : {1, 2, 5, 17}) {
    for (int64_t in : {1, 3, 16, 64, 172}) {
      for (int64_t out : {1, 7, 16, 33, 160}) {
        for (bool with_bias : {false, true}) {
          const Product p{rows, in, out};
          auto linear =
              PackedLinear::Create(p.weight(), p.bias(with_bias), *pool);
          ASSERT_TRUE(linear.ok()) << linear.status();
          EXPECT_EQ(linear->out_features(), out);
          EXPECT_EQ(linear->in_features(), in);
          Matrix<float> y(rows, out);
          ASSERT_TRUE(linear->Run(p.input(), y.view(), *pool).ok());
          ExpectClose(p, with_bias, y);
        }
      }
    }
  }
}

TEST(PackedLinearTest, SameBitsForAnyThreadsAndRows) {
  const Product p{70, 300, 500};
  Matrix<float> expected(p.rows, p.out);
  const auto one = *CreateThreadPool(1);
  auto linear = *PackedLinear::Create(p.weight(), p.bias(true), *one);
  ASSERT_TRUE(linear.Run(p.input(), expected.view(), *one).ok());
  for (int threads : {1, 2, 3, 8}) {
    const auto pool = *CreateThreadPool(threads);
    auto again = *PackedLinear::Create(p.weight(), p.bias(true), *pool);
    for (int64_t step : {1, 3, 7, 64}) {
      Matrix<float> y(p.rows, p.out);
      for (int64_t r = 0; r < p.rows; r += step) {
        const int64_t count = std::min(step, p.rows - r);
        ASSERT_TRUE(
            again.Run(p.input().Rows(r, count), y.view().Rows(r, count), *pool)
                .ok());
      }
      EXPECT_EQ(std::memcmp(y.data(), expected.data(),
                            y.span().size() * sizeof(float)),
                0)
          << threads << " threads, " << step << " rows at a time";
    }
  }
}

TEST(PackedLinearTest, WritesOnlyItsColumnsOfAWiderMatrix) {
  const auto pool = *CreateThreadPool(2);
  const Product p{5, 24, 33};
  auto linear = *PackedLinear::Create(p.weight(), {}, *pool, 40);
  Matrix<float> wide(5, 40);
  for (float& value : wide.span()) value = 77.0f;
  ASSERT_TRUE(linear.Run(p.input(), wide.view().Cols(4, 33), *pool).ok());
  Matrix<float> y(5, 33);
  for (int64_t r = 0; r < 5; ++r) {
    for (int64_t c : {0, 3, 37, 39}) EXPECT_EQ(wide.row(r)[c], 77.0f);
    std::memcpy(y.row(r), wide.row(r) + 4, 33 * sizeof(float));
  }
  ExpectClose(p, false, y);
}

TEST(PackedLinearTest, NoRowsAreNoWork) {
  const auto pool = *CreateThreadPool(1);
  const Product p{1, 4, 4};
  auto linear = *PackedLinear::Create(p.weight(), {}, *pool);
  EXPECT_TRUE(
      linear.Run(p.input().Rows(0, 0), MatrixView<float>(nullptr, 0, 4), *pool)
          .ok());
}

TEST(PackedLinearTest, WhatIsNotFiniteStaysSo) {
  const auto pool = *CreateThreadPool(1);
  Product p{2, 20, 20};
  p.w.data()[3] = std::numeric_limits<float>::quiet_NaN();  // column 0
  auto linear = *PackedLinear::Create(p.weight(), {}, *pool);
  Matrix<float> y(2, 20);
  ASSERT_TRUE(linear.Run(p.input(), y.view(), *pool).ok());
  EXPECT_FALSE(std::isfinite(y.row(0)[0]));
  EXPECT_FALSE(std::isfinite(y.row(1)[0]));
  EXPECT_TRUE(std::isfinite(y.row(1)[1]));
}

}  // namespace
}  // namespace qeff
