// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/group_search.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

double Loss(const std::vector<float>& weights,
            const std::vector<float>& importance, const GroupParams& params,
            int bits) {
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const uint8_t code = QuantizeValue(weights[i], params, bits);
    const double error =
        static_cast<double>(weights[i]) -
        static_cast<double>(DequantizeValue(code, params.zero, params.scale));
    sum += static_cast<double>(importance[i]) * error * error;
  }
  return sum;
}

std::vector<float> Normal(size_t count, uint64_t seed) {
  std::vector<float> values(count);
  const Random random(seed);
  for (size_t i = 0; i < count; ++i) values[i] = random.NormalAt(i);
  return values;
}

struct Case {
  int bits;
  bool symmetric;
  ScaleRule rule;
  double most;  // mean loss over that of ComputeGroupParams, at most
};

class GroupSearchTest : public ::testing::TestWithParam<Case> {};

TEST_P(GroupSearchTest, LosesLess) {
  const Case& c = GetParam();
  QuantScheme scheme;
  scheme.bits = c.bits;
  scheme.symmetric = c.symmetric;
  scheme.scale_rule = c.rule;
  double before = 0, after = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    // Not a multiple of the lanes.
    const std::vector<float> weights = Normal(45, seed);
    std::vector<float> importance = Normal(45, seed + 1000);
    for (float& value : importance) value = std::exp(value);
    const auto range = std::minmax_element(weights.begin(), weights.end());
    const GroupParams plain =
        ComputeGroupParams(scheme, *range.first, *range.second, DType::kBF16);
    const GroupParams found =
        SearchGroupParams(scheme, weights, importance, DType::kBF16);
    const double one = Loss(weights, importance, plain, c.bits);
    const double other = Loss(weights, importance, found, c.bits);
    EXPECT_LE(other, one * (1 + 1e-5)) << seed;
    before += one;
    after += other;
    // Can be stored.
    EXPECT_EQ(BF16ToFloat(FloatToBF16(found.scale)), found.scale);
    EXPECT_EQ(found.inverse, 1.0f / found.scale);
    EXPECT_TRUE(found.scale > 0 || c.rule == ScaleRule::kSignedMax);
  }
  EXPECT_LE(after / before, c.most);
}

INSTANTIATE_TEST_SUITE_P(
    Schemes, GroupSearchTest,
    ::testing::Values(Case{2, true, ScaleRule::kSignedMax, 0.8},
                      Case{2, true, ScaleRule::kAbsMax, 0.75},
                      Case{2, false, ScaleRule::kSignedMax, 0.75},
                      Case{3, true, ScaleRule::kSignedMax, 0.8},
                      Case{4, true, ScaleRule::kSignedMax, 0.85},
                      Case{4, false, ScaleRule::kSignedMax, 0.9},
                      Case{8, true, ScaleRule::kSignedMax, 1.0}));

TEST(GroupSearchTest, ZerosAndUnimportantWeights) {
  QuantScheme scheme;
  const std::vector<float> zeros(32), ones(32, 1.0f);
  EXPECT_EQ(SearchGroupParams(scheme, zeros, ones, DType::kBF16).scale, 1.0f);
  const std::vector<float> weights = Normal(32, 3);
  const GroupParams params =
      SearchGroupParams(scheme, weights, zeros, DType::kBF16);
  EXPECT_TRUE(std::isfinite(params.inverse));
}

}  // namespace
}  // namespace qeff
