// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/mse_search.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/quant/layer_testutil.h"

namespace qeff {
namespace {

// `importance` may be empty, as LeastErrorParams takes it.
double Loss(const std::vector<float>& weights, const GroupParams& params,
            int bits, const std::vector<float>& importance = {}) {
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const uint8_t code = QuantizeValue(weights[i], params, bits);
    const double error =
        static_cast<double>(weights[i]) -
        static_cast<double>(DequantizeValue(code, params.zero, params.scale));
    sum += (importance.empty() ? 1.0 : static_cast<double>(importance[i])) *
           error * error;
  }
  return sum;
}

GroupParams Plain(const QuantScheme& scheme, const std::vector<float>& weights,
                  DType dtype) {
  const auto range = std::minmax_element(weights.begin(), weights.end());
  return ComputeGroupParams(scheme, *range.first, *range.second, dtype);
}

// The least loss of all BF16 scales from a quarter to one and a half of that of
// the range, with all zero points.
double BruteForce(const QuantScheme& scheme, const std::vector<float>& weights,
                  const std::vector<float>& importance) {
  const GroupParams plain = Plain(scheme, weights, DType::kBF16);
  double least = Loss(weights, plain, scheme.bits, importance);
  const uint16_t first = FloatToBF16(std::abs(plain.scale) * 0.25f);
  const uint16_t last = FloatToBF16(std::abs(plain.scale) * 1.5f);
  for (uint16_t bits = first; bits <= last; ++bits) {
    const float scale = BF16ToFloat(bits);
    const auto consider = [&](float signed_scale, int zero) {
      least = std::min(least,
                       Loss(weights, {signed_scale, 1.0f / signed_scale, zero},
                            scheme.bits, importance));
    };
    if (scheme.symmetric) {
      consider(scale, plain.zero);
      if (scheme.scale_rule == ScaleRule::kSignedMax) {
        consider(-scale, plain.zero);
      }
    } else {
      for (int zero = 0; zero < 1 << scheme.bits; ++zero) consider(scale, zero);
    }
  }
  return least;
}

struct Case {
  int bits;
  bool symmetric;
  ScaleRule rule;
  size_t count;
  double most_of_plain;  // mean loss over that of ComputeGroupParams, at most
  double most_of_best;   // and over that of brute force
};

class MseSearchTest : public testing::TestWithParam<Case> {
 protected:
  // Means over groups of normal weights, whose importance is that of inputs of
  // many sizes if `weighted`.
  void Search(bool weighted);

  double plain_ = 0, found_ = 0, best_ = 0;
};

void MseSearchTest::Search(bool weighted) {
  const Case& c = GetParam();
  QuantScheme scheme;
  scheme.bits = c.bits;
  scheme.symmetric = c.symmetric;
  scheme.scale_rule = c.rule;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    std::vector<float> weights = NormalValues(c.count, seed);
    // Some that lie to one side of 0.
    if (seed % 8 == 7) {
      for (float& weight : weights) weight += 1.5f;
    }
    std::vector<float> importance;
    if (weighted) importance = NormalValues(c.count, seed + 1000);
    for (float& value : importance) value = std::exp(value);
    const GroupParams params =
        LeastErrorParams(scheme, weights, importance, DType::kBF16);
    EXPECT_EQ(BF16ToFloat(FloatToBF16(params.scale)), params.scale);
    EXPECT_EQ(params.inverse, 1.0f / params.scale);
    EXPECT_TRUE(params.scale > 0 || c.rule == ScaleRule::kSignedMax);
    const double one = Loss(weights, Plain(scheme, weights, DType::kBF16),
                            scheme.bits, importance);
    const double other = Loss(weights, params, scheme.bits, importance);
    // Sums of `count` squares in float32.
    EXPECT_LE(other, one * (1 + 6e-8 * static_cast<double>(c.count))) << seed;
    plain_ += one;
    found_ += other;
    best_ += BruteForce(scheme, weights, importance);
  }
}

TEST_P(MseSearchTest, NearlyTheBestThereIs) {
  Search(/*weighted=*/false);
  EXPECT_LE(found_ / plain_, GetParam().most_of_plain);
  EXPECT_LE(found_ / best_, GetParam().most_of_best);
}

// A little farther from the best, most where there are zero points.
TEST_P(MseSearchTest, ByImportance) {
  Search(/*weighted=*/true);
  EXPECT_LE(found_ / plain_, GetParam().most_of_plain);
  EXPECT_LE(found_ / best_, GetParam().most_of_best + .025);
}

INSTANTIATE_TEST_SUITE_P(
    Schemes, MseSearchTest,
    testing::Values(Case{2, true, ScaleRule::kSignedMax, 32, 0.88, 1.01},
                    Case{2, true, ScaleRule::kSignedMax, 8, 0.85, 1.01},
                    Case{2, true, ScaleRule::kAbsMax, 32, 0.8, 1.01},
                    Case{2, false, ScaleRule::kSignedMax, 32, 0.8, 1.01},
                    Case{3, true, ScaleRule::kSignedMax, 32, 0.88, 1.01},
                    Case{3, false, ScaleRule::kSignedMax, 32, 0.88, 1.01},
                    Case{4, true, ScaleRule::kSignedMax, 32, 0.9, 1.01},
                    Case{4, true, ScaleRule::kSignedMax, 128, 0.9, 1.01},
                    Case{4, true, ScaleRule::kSignedMax, 8, 0.92, 1.04},
                    Case{4, false, ScaleRule::kSignedMax, 32, 0.9, 1.01},
                    Case{5, true, ScaleRule::kSignedMax, 32, 0.95, 1.02},
                    Case{8, true, ScaleRule::kSignedMax, 32, 0.9, 1.04},
                    Case{8, true, ScaleRule::kAbsMax, 32, 0.95, 1.05}));

// Whatever the unit of the weights is, the result is the same.
TEST(MseSearch, AnyMagnitudes) {
  const std::vector<float> weights = NormalValues(45, 3);
  for (const bool symmetric : {true, false}) {
    QuantScheme scheme;
    scheme.symmetric = symmetric;
    const GroupParams one = LeastErrorParams(scheme, weights, {}, DType::kBF16);
    for (const int exponent : {-110, -60, 60, 125}) {
      std::vector<float> scaled = weights;
      for (float& weight : scaled) weight = std::ldexp(weight, exponent);
      const GroupParams other =
          LeastErrorParams(scheme, scaled, {}, DType::kBF16);
      EXPECT_EQ(other.scale, std::ldexp(one.scale, exponent)) << exponent;
      EXPECT_EQ(other.zero, one.zero);
    }
  }
}

// What a model may hold at worst: parameters can be stored and read.
TEST(MseSearch, HostileValues) {
  constexpr float kMost = std::numeric_limits<float>::max();
  const std::vector<std::vector<float>> groups = {{0, 0, 0},
                                                  {-0.0f, 0, 0},
                                                  {1e-45f, -1e-45f},
                                                  {1e-38f, 1e-39f},
                                                  {kMost, -kMost},
                                                  {kMost, 1e-45f, 0},
                                                  {65504, -65504},
                                                  {6e-8f, 0, -6e-8f, 0},
                                                  {1, 1, 1, 1},
                                                  {-3},
                                                  {0, 0, 0, 7, 0, 0, 0},
                                                  {1e30f, 1, 1, 1}};
  for (const int bits : {2, 4, 7, 8}) {
    for (const bool symmetric : {true, false}) {
      for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
        QuantScheme scheme;
        scheme.bits = bits;
        scheme.symmetric = symmetric;
        for (const std::vector<float>& weights : groups) {
          const GroupParams plain = Plain(scheme, weights, dtype);
          if (!std::isfinite(plain.scale)) continue;  // not of an F16 model
          const GroupParams params =
              LeastErrorParams(scheme, weights, {}, dtype);
          EXPECT_TRUE(std::isfinite(params.scale) && params.scale != 0);
          EXPECT_TRUE(std::isfinite(params.inverse));
          EXPECT_GE(params.zero, 0);
          EXPECT_LT(params.zero, 1 << bits);
          EXPECT_LE(Loss(weights, params, bits),
                    Loss(weights, plain, bits) * (1 + 1e-6));
        }
      }
    }
  }
}

TEST(MseSearch, UnimportantWeights) {
  QuantScheme scheme;
  const std::vector<float> weights = NormalValues(32, 3), zeros(32);
  std::vector<float> importance(32, 1.0f);
  EXPECT_EQ(LeastErrorParams(scheme, zeros, importance, DType::kBF16).scale,
            1.0f);
  EXPECT_EQ(LeastErrorParams(scheme, weights, importance, DType::kBF16).scale,
            LeastErrorParams(scheme, weights, {}, DType::kBF16).scale);
  EXPECT_EQ(LeastErrorParams(scheme, weights, zeros, DType::kBF16).scale,
            Plain(scheme, weights, DType::kBF16).scale);
}

// In F16 and F32 as in BF16.
TEST(MseSearch, TypesOfScales) {
  QuantScheme scheme;
  const std::vector<float> weights = NormalValues(64, 5);
  const double coarse =
      Loss(weights, LeastErrorParams(scheme, weights, {}, DType::kBF16), 4);
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    const GroupParams params = LeastErrorParams(scheme, weights, {}, dtype);
    uint8_t stored[sizeof(float)];
    StoreScale(params.scale, dtype, stored);
    EXPECT_EQ(LoadScale(dtype, stored), params.scale);
    EXPECT_LE(Loss(weights, params, 4), coarse * 1.01);
  }
}

}  // namespace
}  // namespace qeff
