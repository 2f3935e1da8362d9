// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/vector_math.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(ExpFloatTest, IsAccurate) {
  double worst = 0;
  // Every 97th float of the range, both signs.
  for (float x = 1e-30f; x <= 87.0f;) {
    for (float signed_x : {x, -x}) {
      const double exact = std::exp(static_cast<double>(signed_x));
      worst = std::max(worst, std::abs(ExpFloat(signed_x) - exact) / exact);
    }
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    bits += 97;
    std::memcpy(&x, &bits, sizeof(x));
  }
  EXPECT_LT(worst, std::ldexp(4.0, -24));
  RecordProperty("worst_ulp", std::to_string(std::ldexp(worst, 24)));
}

TEST(ExpFloatTest, Ends) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ExpFloat(0.0f), 1.0f);
  EXPECT_EQ(ExpFloat(-0.0f), 1.0f);
  EXPECT_EQ(ExpFloat(-87.01f), 0.0f);
  EXPECT_EQ(ExpFloat(-infinity), 0.0f);
  EXPECT_NEAR(ExpFloat(infinity) / std::exp(88.0), 1.0, 1e-6);
  EXPECT_TRUE(std::isnan(ExpFloat(std::nanf(""))));
}

}  // namespace
}  // namespace qeff
