// SPDX-License-Identifier: Apache-2.0
//
// Against the formulas in double. Every operation computes in double and
// rounds to float once, so results are within one unit in the last place (two
// roundings for ScaledSoftmax: bounds are at the tests).

#include "qeff/device/ops.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace internal_device {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr double kUlp = 1.2e-7;  // 2^-23, relative

std::vector<float> Values(size_t size, uint64_t seed, float scale = 1.0f) {
  const Random random(seed);
  std::vector<float> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = scale * random.NormalAt(i);
  return values;
}

TEST(NormalizeTest, RmsNormDividesByTheRootMeanSquare) {
  const std::vector<float> x = Values(37, 1, 3.0f);
  const DeviceNorm norm{Values(37, 2), Values(37, 3)};
  double mean = 0;
  for (float v : x) mean += static_cast<double>(v) * v / 37;
  std::vector<float> y(37);
  Normalize(NormKind::kRmsNorm, 1e-3, {norm.weight, {}}, x, absl::MakeSpan(y));
  for (size_t i = 0; i < y.size(); ++i) {
    const double expected = x[i] / std::sqrt(mean + 1e-3) * norm.weight[i];
    EXPECT_NEAR(y[i], expected, kUlp * std::fabs(expected)) << i;
  }
  std::vector<float> biased = x;  // in place
  Normalize(NormKind::kRmsNorm, 1e-3, norm, biased, absl::MakeSpan(biased));
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_EQ(biased[i], y[i] + norm.bias[i]) << i;
  }
}

TEST(NormalizeTest, LayerNormSubtractsTheMean) {
  std::vector<float> x = Values(29, 4);
  for (float& v : x) v += 100.0f;  // the mean must not cost precision
  const DeviceNorm norm{Values(29, 5), Values(29, 6)};
  double mean = 0, variance = 0;
  for (float v : x) mean += v / 29.0;
  for (float v : x) variance += (v - mean) * (v - mean) / 29.0;
  std::vector<float> y(29);
  Normalize(NormKind::kLayerNorm, 1e-5, norm, x, absl::MakeSpan(y));
  for (size_t i = 0; i < y.size(); ++i) {
    const double expected =
        (x[i] - mean) / std::sqrt(variance + 1e-5) * norm.weight[i] +
        norm.bias[i];
    EXPECT_NEAR(y[i], expected, kUlp * std::fabs(expected) + 1e-12) << i;
  }
}

TEST(NormalizeTest, ZerosStayFiniteAndNaNPropagates) {
  std::vector<float> x(8, 0.0f);
  const DeviceNorm norm{std::vector<float>(8, 1.0f), {}};
  for (NormKind kind : {NormKind::kRmsNorm, NormKind::kLayerNorm}) {
    std::vector<float> y(8, 5.0f);
    Normalize(kind, 1e-5, norm, x, absl::MakeSpan(y));
    EXPECT_EQ(y, x);
  }
  x[2] = kNaN;
  std::vector<float> y(8);
  Normalize(NormKind::kRmsNorm, 1e-5, norm, x, absl::MakeSpan(y));
  for (float v : y) EXPECT_TRUE(std::isnan(v));
}

TEST(NormalizeHeadsTest, EachHeadByItself) {
  std::vector<float> heads = {3, 4, 0, 10};
  NormalizeHeads(1e-30, {1.0f, 2.0f}, absl::MakeSpan(heads));
  const double first = std::sqrt(12.5);
  EXPECT_FLOAT_EQ(heads[0], static_cast<float>(3 / first));
  EXPECT_FLOAT_EQ(heads[1], static_cast<float>(8 / first));
  EXPECT_FLOAT_EQ(heads[2], 0);
  EXPECT_FLOAT_EQ(heads[3], static_cast<float>(20 / std::sqrt(50.0)));
}

TEST(RotateTest, PairsAreHalvesApart) {
  std::vector<float> heads = {1, 2, 3, 4, 5, 6, 7, 8};
  Rotate({0.0f, 1.0f}, {1.0f, 0.0f}, absl::MakeSpan(heads));
  EXPECT_EQ(heads, (std::vector<float>{-3, 2, 1, 4, -7, 6, 5, 8}));
}

TEST(ClampTest, KeepsNaN) {
  std::vector<float> x = {-3, -1, 0.5f, 2, kNaN};
  Clamp(1.0f, absl::MakeSpan(x));
  EXPECT_EQ(std::vector<float>(x.begin(), x.end() - 1),
            (std::vector<float>{-1, -1, 0.5f, 1}));
  EXPECT_TRUE(std::isnan(x[4]));
}

// Scores are rounded after each of scale and slope: an absolute error of
// |score| * 2^-23, which the exponential makes a relative one; then the
// exponential and the quotient are rounded. Scores are below 8 here.
TEST(ScaledSoftmaxTest, ScalesAndAddsAlibi) {
  constexpr float kScale = 0.7f, kSlope = 0.25f;
  for (size_t size : {1, 2, 7, 31}) {
    const std::vector<float> x = Values(size, size, 2.0f);
    std::vector<double> expected(size);
    double sum = 0;
    for (size_t i = 0; i < size; ++i) {
      const double distance = static_cast<double>(size - 1 - i);
      expected[i] = std::exp(kScale * x[i] - kSlope * distance);
      sum += expected[i];
    }
    std::vector<float> y = x;
    ScaledSoftmax(kScale, kSlope, absl::MakeSpan(y));
    for (size_t i = 0; i < size; ++i) {
      EXPECT_NEAR(y[i], expected[i] / sum, 20 * kUlp * expected[i] / sum)
          << i << " of " << size;
    }
  }
}

TEST(ScaledSoftmaxTest, LargeScoresDoNotOverflow) {
  std::vector<float> x = {3e38f, 1.0f, -3e38f};
  ScaledSoftmax(1.0f, 0.0f, absl::MakeSpan(x));
  EXPECT_EQ(x, (std::vector<float>{1, 0, 0}));
  x = {1.0f, kNaN};
  ScaledSoftmax(1.0f, 0.0f, absl::MakeSpan(x));
  EXPECT_TRUE(std::isnan(x[0]) && std::isnan(x[1]));
}

double Formula(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x * 0.5 * std::erfc(-x * std::sqrt(0.5));
    case Activation::kGeluTanh: {
      const double u =
          std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
      return x / (1 + std::exp(-2 * u));
    }
    case Activation::kRelu:
      return std::fmax(x, 0.0);
  }
  return 0;
}

// 1e-11: Exp and Erf times |x| below 10.
TEST(ActivateTest, FollowsTheFormulas) {
  std::vector<float> xs;
  for (float x = -10; x <= 10; x += 0.0173f) xs.push_back(x);
  for (Activation activation : {Activation::kSilu, Activation::kGelu,
                                Activation::kGeluTanh, Activation::kRelu}) {
    std::vector<float> ys = xs;
    Activate(activation, absl::MakeSpan(ys));
    for (size_t i = 0; i < xs.size(); ++i) {
      const double expected = Formula(activation, xs[i]);
      ASSERT_NEAR(ys[i], expected, kUlp * std::fabs(expected) + 1e-11)
          << "activation " << static_cast<int>(activation) << " of " << xs[i];
    }
  }
}

TEST(ActivateTest, LargeArgumentsAndNaN) {
  for (Activation activation : {Activation::kSilu, Activation::kGelu,
                                Activation::kGeluTanh, Activation::kRelu}) {
    std::vector<float> x = {1e30f, -1e30f, kNaN};
    Activate(activation, absl::MakeSpan(x));
    EXPECT_EQ(x[0], 1e30f);
    EXPECT_EQ(x[1], 0.0f);
    EXPECT_TRUE(std::isnan(x[2]));
  }
}

TEST(ElementwiseTest, AddsAndMultiplies) {
  std::vector<float> x = {1, 2, 3};
  Add({10, 20, 30}, absl::MakeSpan(x));
  EXPECT_EQ(x, (std::vector<float>{11, 22, 33}));
  Multiply({2, 0, -1}, absl::MakeSpan(x));
  EXPECT_EQ(x, (std::vector<float>{22, 0, -33}));
}

}  // namespace
}  // namespace internal_device
}  // namespace qeff
