// SPDX-License-Identifier: Apache-2.0
//
// What other kernels take from float_math-inl.h; the rest is tested through
// arithmetic.h and activate.h.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/elementwise/float_math_test.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <cmath>
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/kernels/elementwise/elementwise_testutil.h"
#include "qeff/kernels/elementwise/float_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_float_math_test {
namespace HWY_NAMESPACE {

void PowersOfTwo(float* x, size_t count) {
  const hwy::HWY_NAMESPACE::CappedTag<float, 16> df;
  const float* from = x;
  ::qeff::HWY_NAMESPACE::MapRow(
      count, x,
      [=](decltype(hwy::HWY_NAMESPACE::Zero(df)) v) {
        return ::qeff::HWY_NAMESPACE::PowerOfTwoNotPositive(df, v);
      },
      from);
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_float_math_test
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_float_math_test {
HWY_EXPORT(PowersOfTwo);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void PowersOfTwoOf(absl::Span<float> x) {
  HWY_DYNAMIC_DISPATCH(PowersOfTwo)(x.data(), x.size());
}

TEST(PowerOfTwoNotPositiveTest, IsWithinItsBound) {
  const std::vector<float> xs = FloatsBetween(-1e-9f, -126.0f, 499);
  const std::vector<float> ys = SameOnEveryTarget(xs, PowersOfTwoOf);
  double worst = 0, worst_x = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    const double error =
        std::fabs(ys[i] / std::exp2(static_cast<double>(xs[i])) - 1);
    if (error > worst) {
      worst = error;
      worst_x = xs[i];
    }
  }
  EXPECT_LE(worst, 1.7 * 0x1p-23) << "x = " << worst_x;
  RecordProperty("worst_in_2_to_minus_23", std::to_string(worst * 0x1p23));
}

TEST(PowerOfTwoNotPositiveTest, ExactAndSpecialValues) {
  ForEachTarget([] {
    std::vector<float> x = {0.0f,    -0.0f,  -1.0f,      -126.0f,
                            -126.5f, -3e38f, -kInfinity, kNaN};
    PowersOfTwoOf(absl::MakeSpan(x));
    EXPECT_EQ(x[0], 1.0f);
    EXPECT_EQ(x[1], 1.0f);
    EXPECT_EQ(x[2], 0.5f);
    EXPECT_EQ(x[3], 0x1p-126f);
    EXPECT_EQ(x[4], 0.0f);
    EXPECT_EQ(x[5], 0.0f);
    EXPECT_EQ(x[6], 0.0f);
    EXPECT_TRUE(std::isnan(x[7]));
  });
}

}  // namespace internal_float_math_test
}  // namespace qeff
#endif  // HWY_ONCE
