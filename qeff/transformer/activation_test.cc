// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/activation.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace qeff {
namespace {

double Reference(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh: {
      const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
      return x / (1 + std::exp(-2 * u));
    }
    case Activation::kRelu:
      return x > 0 ? x : 0;
  }
  return 0;
}

constexpr Activation kAll[] = {Activation::kSilu, Activation::kGelu,
                               Activation::kGeluTanh, Activation::kRelu};

// All are x times a factor in [0, 1] that is off by a few roundings. In the
// exponents of silu and gelu_tanh, e = x or 2u, rounding by |e| 2^-24 changes
// 1 / (1 + e^-e) by at most max |e| e^-|e| 2^-24 < 0.4 * 2^-24 per rounding,
// of which there are at most six; the exponential itself is good to 4 * 2^-24,
// of which at most a quarter gets through; then a sum and a quotient.
TEST(ActivationTest, AgreesWithADoubleReference) {
  for (Activation activation : kAll) {
    for (double x = -30; x <= 30; x += 0.001) {
      const float value = static_cast<float>(x);
      EXPECT_NEAR(ActivationOf(activation, value), Reference(activation, value),
                  std::ldexp(8 * std::abs(x), -24))
          << static_cast<int>(activation) << " at " << x;
    }
  }
}

TEST(ActivationTest, Ends) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (Activation activation : kAll) {
    EXPECT_EQ(ActivationOf(activation, 0.0f), 0.0f);
    EXPECT_EQ(ActivationOf(activation, infinity), infinity);
    EXPECT_EQ(ActivationOf(activation, 1e30f), 1e30f);
    EXPECT_NEAR(ActivationOf(activation, -1e4f), 0.0, 1e-30);
    EXPECT_TRUE(std::isnan(ActivationOf(activation, std::nanf(""))));
  }
}

TEST(ActivationTest, GatesRowsWithStrides) {
  std::vector<float> gate(2 * 8, 1.0f), up(2 * 5, 3.0f);
  ApplyGatedActivation(Activation::kRelu, {gate.data(), 2, 5, 8},
                       {up.data(), 2, 5});
  for (int r = 0; r < 2; ++r) {
    for (int c = 0; c < 8; ++c) {
      EXPECT_EQ(gate[r * 8 + c], c < 5 ? 3.0f : 1.0f);
    }
  }
}

TEST(ActivationTest, AddsAndClips) {
  std::vector<float> x = {-5, -1, 0, 1, 5}, y = {1, 1, 1, 1, 1};
  AddTo({x.data(), 1, 5}, {y.data(), 1, 5});
  EXPECT_EQ(x, (std::vector<float>{-4, 0, 1, 2, 6}));
  x[2] = std::nanf("");
  Clip(2.5f, {x.data(), 1, 5});
  EXPECT_EQ(x[0], -2.5f);
  EXPECT_EQ(x[4], 2.5f);
  EXPECT_TRUE(std::isnan(x[2]));
}

double ReferenceSlope(Activation activation, double x) {
  // Differences on either side of a value; 0 of ReLU has none.
  if (activation == Activation::kRelu) return x > 0 ? 1 : 0;
  const double h = 1e-5;
  return (Reference(activation, x + h) - Reference(activation, x - h)) /
         (2 * h);
}

// s, 1 - s = e^-x s and the product with x and w' are off by at most a dozen
// roundings, and by less than 6 |w| u e^-|w| from that of the exponent w;
// |x s (1 - s) w'| stays below 1. 1e-9 for the differences.
TEST(ActivationTest, SlopesAgreeWithDifferences) {
  for (Activation activation : kAll) {
    for (double x = -30; x <= 30; x += 0.001) {
      const float value = static_cast<float>(x);
      EXPECT_NEAR(ActivationSlopeOf(activation, value),
                  ReferenceSlope(activation, value), std::ldexp(16, -24) + 1e-9)
          << static_cast<int>(activation) << " at " << x;
    }
    EXPECT_EQ(ActivationSlopeOf(activation, 1e9f), 1.0f);
    EXPECT_NEAR(ActivationSlopeOf(activation, -1e9f), 0.0f, 1e-9);
  }
}

TEST(ActivationTest, BackwardOfRows) {
  for (Activation activation : kAll) {
    std::vector<float> gate = {1.5f, -0.5f, 9, 0.25f}, plain = gate;
    std::vector<float> up = {2, -3, 9, 0.5f};
    const std::vector<float> dy = {0.5f, -1, 9, 4};
    const std::vector<float> gate_before = gate, up_before = up;
    // Two rows of a matrix of stride 3 and 1 column.
    const MatrixView<float> g(gate.data(), 2, 1, 3), u(up.data(), 2, 1, 3);
    const MatrixView<const float> d(dy.data(), 2, 1, 3);
    ApplyGatedActivationBackward(activation, g, u, d);
    ApplyActivationBackward(activation, {plain.data(), 2, 1, 3}, d);
    for (size_t i : {0, 3}) {
      const float slope = ActivationSlopeOf(activation, gate_before[i]);
      EXPECT_FLOAT_EQ(gate[i], slope * up_before[i] * dy[i]);
      EXPECT_FLOAT_EQ(up[i], ActivationOf(activation, gate_before[i]) * dy[i]);
      EXPECT_FLOAT_EQ(plain[i], slope * dy[i]);
    }
    for (size_t i : {1, 2}) EXPECT_EQ(gate[i], gate_before[i]);
  }
}

TEST(ActivationTest, ClipPassesGradientsInside) {
  const float nan = std::nanf("");
  std::vector<float> x = {-2, -1, -0.5f, 0, 0.75f, 1, 3, nan};
  std::vector<float> dx = {1, 2, 3, 4, 5, 6, 7, 8};
  Clip(1.0f, {x.data(), 1, 8});
  ClipBackward(1.0f, {x.data(), 1, 8}, {dx.data(), 1, 8});
  EXPECT_EQ(dx, (std::vector<float>{0, 0, 3, 4, 5, 0, 0, 8}));
}

}  // namespace
}  // namespace qeff
