// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/elementwise/activate.h"

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/kernels/elementwise/elementwise_testutil.h"

namespace qeff {
namespace {

constexpr double kU = 0x1p-24;

struct Case {
  Activation activation;
  const char* name;
};
constexpr Case kCases[] = {{Activation::kSilu, "Silu"},
                           {Activation::kGelu, "Gelu"},
                           {Activation::kGeluTanh, "GeluTanh"},
                           {Activation::kRelu, "Relu"}};

// sqrt(2/pi) (x + 0.044715 x^3), twice.
double TwiceTanhArgument(double x) {
  return 2 * 0.79788456080286536 * (x + 0.044715 * x * x * x);
}

double Exact(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x * 0.70710678118654752);
    case Activation::kGeluTanh:
      return x / (1 + std::exp(-TwiceTanhArgument(x)));
    case Activation::kRelu:
      return x < 0 ? 0 : x;
  }
  return 0;
}

// The bounds of the header, in units of kU.
double Bound(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return 4;
    case Activation::kGelu:
      return 8;
    case Activation::kGeluTanh:
      return 4 + 3 * (x < 0 ? -TwiceTanhArgument(x) : 0);
    case Activation::kRelu:
      return 0;
  }
  return 0;
}

class ActivateTest : public ::testing::TestWithParam<Case> {};

TEST_P(ActivateTest, IsWithinTheBoundOfTheHeader) {
  const Activation f = GetParam().activation;
  double worst = 0, worst_x = 0;
  for (const float sign : {1.0f, -1.0f}) {
    const std::vector<float> xs = FloatsBetween(sign * 1e-9f, sign * 130, 499);
    const std::vector<float> ys = SameOnEveryTarget(
        xs, [=](absl::Span<float> x) { ActivateInPlace(f, x); });
    for (size_t i = 0; i < xs.size(); ++i) {
      const double exact = Exact(f, xs[i]);
      const double error = std::fabs(ys[i] - exact);
      const double subnormal = 0x1p-149 * std::fabs(xs[i]);
      const double bound = Bound(f, xs[i]) * kU * std::fabs(exact);
      ASSERT_LE(error, bound + subnormal) << "x = " << xs[i];
      if (std::fabs(exact) > 1e-30 && error / std::fabs(exact) > worst) {
        worst = error / std::fabs(exact);
        worst_x = xs[i];
      }
    }
  }
  RecordProperty("worst_in_u",
                 std::to_string(worst / kU) + " at " + std::to_string(worst_x));
}

TEST_P(ActivateTest, EveryRemainderAndAlignmentAloneAndGated) {
  const Activation f = GetParam().activation;
  ForEachTarget([&] {
    for (size_t size = 0; size <= 70; ++size) {
      PoisonedRow gate(size, size % 5, 1), up(size, size % 3, 2);
      const std::vector<float> before = gate.Copy(), factor = up.Copy();
      ActivateGate(f, gate.span(), up.span());
      EXPECT_EQ(gate.Copy(), before);
      ActivateInPlace(f, gate.span());
      for (size_t i = 0; i < size; ++i) {
        std::vector<float> alone = {before[i]};
        ActivateInPlace(f, absl::MakeSpan(alone));
        ASSERT_EQ(gate.span()[i], alone[0]) << i << " of " << size;
        ASSERT_EQ(up.span()[i], alone[0] * factor[i]) << i << " of " << size;
      }
      gate.ExpectSurroundingsUntouched();
      up.ExpectSurroundingsUntouched();
    }
  });
}

TEST_P(ActivateTest, SpecialValues) {
  const bool relu = GetParam().activation == Activation::kRelu;
  ForEachTarget([&] {
    std::vector<float> x = {0.0f,  kNaN,   kInfinity, -kInfinity,
                            3e38f, -3e38f, -1e5f,     1e5f};
    ActivateInPlace(GetParam().activation, absl::MakeSpan(x));
    EXPECT_EQ(x[0], 0.0f);
    EXPECT_TRUE(std::isnan(x[1]));
    EXPECT_EQ(x[2], kInfinity);
    EXPECT_TRUE(relu ? x[3] == 0 : std::isnan(x[3]));
    EXPECT_EQ(x[4], 3e38f);
    EXPECT_EQ(x[5], 0.0f);
    EXPECT_EQ(x[6], 0.0f);
    EXPECT_EQ(x[7], 1e5f);
  });
}

INSTANTIATE_TEST_SUITE_P(All, ActivateTest, ::testing::ValuesIn(kCases),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           return std::string(info.param.name);
                         });

TEST(ActivateDeathTest, ChecksSizes) {
  std::vector<float> x(4), y(3);
  EXPECT_DEATH(ActivateGate(Activation::kSilu, y, absl::MakeSpan(x)),
               "check failed");
}

}  // namespace
}  // namespace qeff
