// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/scalar_math.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace qeff {
namespace internal_device {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(ExpTest, IsWithinItsBound) {
  for (double x = -700; x <= 700; x += 0.0137) {
    ASSERT_NEAR(Exp(x) / std::exp(x), 1.0, 1e-12) << "x = " << x;
  }
}

TEST(ExpTest, ExactAndSpecialValues) {
  EXPECT_EQ(Exp(0.0), 1.0);
  EXPECT_EQ(Exp(-0.0), 1.0);
  EXPECT_EQ(Exp(-701), 0.0);
  EXPECT_EQ(Exp(-kInfinity), 0.0);
  EXPECT_EQ(Exp(701), kInfinity);
  EXPECT_EQ(Exp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(Exp(std::nan(""))));
}

TEST(ErfTest, IsWithinItsBound) {
  for (double x = -7; x <= 7; x += 0.00137) {
    ASSERT_NEAR(Erf(x), std::erf(x), 1e-12) << "x = " << x;
  }
}

TEST(ErfTest, ExactAndSpecialValues) {
  EXPECT_EQ(Erf(0.0), 0.0);
  EXPECT_EQ(Erf(kInfinity), 1.0);
  EXPECT_EQ(Erf(-kInfinity), -1.0);
  EXPECT_TRUE(std::isnan(Erf(std::nan(""))));
}

}  // namespace
}  // namespace internal_device
}  // namespace qeff
