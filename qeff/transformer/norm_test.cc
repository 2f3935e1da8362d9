// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/norm.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/gradient_testutil.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

std::vector<float> RandomVector(int64_t size, uint64_t stream, float mean) {
  const Random random(3, stream);
  std::vector<float> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = mean + random.NormalAt(i);
  }
  return values;
}

struct Case {
  int64_t n;
  std::vector<float> x = RandomVector(n, 1, 0.5f);
  std::vector<float> weight = RandomVector(n, 2, 1.0f);
  std::vector<float> bias = RandomVector(n, 3, 0.0f);
};

constexpr double kEpsilon = 1e-5;

// x, scale and weight give two products and one rounding of the scale; 1 % for
// terms of higher order.
double Bound(int roundings, double magnitude) {
  return 1.01 * roundings * std::ldexp(magnitude, -24);
}

TEST(RmsNormTest, AgreesWithADoubleReference) {
  for (int64_t n : {1, 2, 7, 8, 9, 64, 100}) {
    Case c{n};
    double squares = 0;
    for (float v : c.x) squares += static_cast<double>(v) * v;
    std::vector<float> y(c.x.size());
    RmsNorm({c.x.data(), 1, n}, c.weight, kEpsilon, {y.data(), 1, n});
    for (int64_t i = 0; i < n; ++i) {
      const double expected =
          c.x[i] * c.weight[i] /
          std::sqrt(squares / static_cast<double>(n) + kEpsilon);
      EXPECT_NEAR(y[i], expected, Bound(3, std::abs(expected)))
          << i << " of " << n;
    }
  }
}

TEST(LayerNormTest, AgreesWithADoubleReference) {
  for (int64_t n : {1, 2, 7, 8, 9, 64, 100}) {
    for (bool with_bias : {false, true}) {
      Case c{n};
      double mean = 0, squares = 0;
      for (float v : c.x) mean += v / static_cast<double>(n);
      for (float v : c.x) squares += (v - mean) * (v - mean);
      std::vector<float> y(c.x.size());
      LayerNorm({c.x.data(), 1, n}, c.weight,
                with_bias ? c.bias : std::vector<float>(), kEpsilon,
                {y.data(), 1, n});
      for (int64_t i = 0; i < n; ++i) {
        const double product =
            (c.x[i] - mean) * c.weight[i] /
            std::sqrt(squares / static_cast<double>(n) + kEpsilon);
        const double bias = with_bias ? c.bias[i] : 0.0;
        EXPECT_NEAR(y[i], product + bias,
                    Bound(3, std::abs(product) + std::abs(bias)) + 1e-12)
            << i << " of " << n;
      }
    }
  }
}

TEST(NormTest, WorksInPlaceAndWithStrides) {
  Case c{10};
  std::vector<float> x(3 * 16, 9.0f), y(3 * 10);
  for (int r = 0; r < 3; ++r) std::copy_n(c.x.data(), 10, &x[r * 16]);
  const MatrixView<float> rows(x.data(), 3, 10, 16);
  RmsNorm(rows, c.weight, kEpsilon, {y.data(), 3, 10});
  RmsNorm(rows, c.weight, kEpsilon, rows);
  for (int r = 0; r < 3; ++r) {
    for (int i = 0; i < 10; ++i) EXPECT_EQ(x[r * 16 + i], y[r * 10 + i]);
    EXPECT_EQ(x[r * 16 + 10], 9.0f);
  }
}

// A constant row has variance 0: no division by it.
TEST(LayerNormTest, ConstantRow) {
  const std::vector<float> x(5, 3.0f), one(5, 1.0f);
  std::vector<float> y(5);
  LayerNorm({x.data(), 1, 5}, one, {}, kEpsilon, {y.data(), 1, 5});
  for (float v : y) EXPECT_EQ(v, 0.0f);
}

// Of the loss sum(dy * norm(x)), in x, the weights and the biases.
void CheckGradient(bool layer_norm, bool with_bias, int64_t n) {
  SCOPED_TRACE(::testing::Message() << layer_norm << with_bias << " " << n);
  constexpr int64_t kRows = 3;
  const Matrix<float> x = RandomMatrix(kRows, n, 1, 1.0f, 0.5f);
  const Matrix<float> dy = RandomMatrix(kRows, n, 2);
  Case c{n};
  std::vector<double> at = ToDouble(x.span());
  at.insert(at.end(), c.weight.begin(), c.weight.end());
  at.insert(at.end(), c.bias.begin(), c.bias.end());
  const size_t size = static_cast<size_t>(n);
  const std::vector<double> expected = FiniteDifferences(
      [&](const std::vector<double>& v) {
        double loss = 0;
        for (size_t r = 0; r < kRows; ++r) {
          double mean = 0, squares = 0;
          const double* row = v.data() + r * size;
          for (size_t i = 0; layer_norm && i < size; ++i) {
            mean += row[i] / static_cast<double>(n);
          }
          for (size_t i = 0; i < size; ++i) {
            squares += (row[i] - mean) * (row[i] - mean);
          }
          const double scale =
              1 / std::sqrt(squares / static_cast<double>(n) + kEpsilon);
          for (size_t i = 0; i < size; ++i) {
            loss += dy.data()[r * size + i] *
                    ((row[i] - mean) * scale * v[kRows * size + i] +
                     (with_bias ? v[(kRows + 1) * size + i] : 0.0));
          }
        }
        return loss;
      },
      at);
  // In place of dy; parameters are added to what is there.
  std::vector<float> actual(dy.span().begin(), dy.span().end());
  actual.resize(at.size(), 0.25f);
  const absl::Span<float> dweight =
      absl::MakeSpan(actual).subspan(kRows * size, size);
  const absl::Span<float> dbias =
      absl::MakeSpan(actual).subspan((kRows + 1) * size, size);
  const MatrixView<float> dx(actual.data(), kRows, n);
  if (layer_norm) {
    LayerNormBackward(x.view(), c.weight, kEpsilon, dx, dx, dweight,
                      with_bias ? dbias : absl::Span<float>());
  } else {
    RmsNormBackward(x.view(), c.weight, kEpsilon, dx, dx, dweight);
  }
  for (float& d : dweight) d -= 0.25f;
  for (float& d : dbias) d -= 0.25f;
  // Elements of about 1: ten roundings, and what differences lose.
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(
        actual[i], expected[i],
        (1 + std::abs(expected[i])) * (10 * std::ldexp(1.0, -24) + 1e-7))
        << i;
  }
}

TEST(NormTest, GradientsAgreeWithDifferences) {
  for (int64_t n : {3, 8, 13, 40}) {
    CheckGradient(false, false, n);
    CheckGradient(true, false, n);
    CheckGradient(true, true, n);
  }
}

}  // namespace
}  // namespace qeff
