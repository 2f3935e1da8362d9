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
#include "qeff/util/random.h"

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

// c = a * b + c.
void MultiplyAdd(const float* a, const float* b, float* c, size_t count) {
  const hwy::HWY_NAMESPACE::CappedTag<float, 16> df;
  using V = decltype(hwy::HWY_NAMESPACE::Zero(df));
  const float* addends = c;
  ::qeff::HWY_NAMESPACE::MapRow(
      count, c,
      [=](V av, V bv, V cv) {
        return ::qeff::HWY_NAMESPACE::FusedMulAdd(df, av, bv, cv);
      },
      a, b, addends);
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_float_math_test
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_float_math_test {
HWY_EXPORT(PowersOfTwo);
HWY_EXPORT(MultiplyAdd);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void PowersOfTwoOf(absl::Span<float> x) {
  HWY_DYNAMIC_DISPATCH(PowersOfTwo)(x.data(), x.size());
}

void MultiplyAddOf(const std::vector<float>& a, const std::vector<float>& b,
                   std::vector<float>& c) {
  HWY_DYNAMIC_DISPATCH(MultiplyAdd)(a.data(), b.data(), c.data(), c.size());
}

// All must be what the C library's gives.
void CheckFusedMulAdd(const std::vector<float>& a, const std::vector<float>& b,
                      const std::vector<float>& c) {
  ForEachTarget([&] {
    std::vector<float> found = c;
    MultiplyAddOf(a, b, found);
    for (size_t i = 0; i < c.size(); ++i) {
      const float expected = std::fma(a[i], b[i], c[i]);
      if (std::isnan(expected) && std::isnan(found[i])) continue;
      ASSERT_EQ(BitsOf(found[i]), BitsOf(expected))
          << a[i] << " * " << b[i] << " + " << c[i];
    }
  });
}

TEST(FusedMulAddTest, RoundsOnce) {
  std::vector<float> a, b, c;
  const Random random(1);
  for (uint64_t i = 0; i < 300000; i += 3) {
    // Of any exponents that meet, and some that do not.
    const auto number = [&](uint64_t at, int exponents) {
      const uint64_t draw = random.At(i + at);
      const float mantissa = FloatOf(0x3F800000u | (draw & 0x807FFFFFu));
      return std::ldexp(
          mantissa, static_cast<int>(draw >> 40) % exponents - exponents / 2);
    };
    a.push_back(number(0, 30));
    b.push_back(number(1, 30));
    c.push_back(number(2, 120));
  }
  // The product is between two numbers, and what is added decides, though the
  // nearest double does not show it.
  for (const float decides : {0x1p-60f, -0x1p-60f, 0.0f}) {
    for (const float sign : {1.0f, -1.0f}) {
      a.push_back(sign * (1 + 0x1p-12f));
      b.push_back(1 + 0x1p-12f);
      c.push_back(decides);
      a.push_back(sign * (1 + 0x3p-12f));
      b.push_back(1 + 0x1p-12f);
      c.push_back(decides);
      a.push_back(sign * 0x1.8p-75f);
      b.push_back(0x1p-74f);
      c.push_back(decides * 0x1p-80f);
    }
  }
  CheckFusedMulAdd(a, b, c);
}

TEST(FusedMulAddTest, SpecialValues) {
  const std::vector<float> numbers = {
      0.0f,     1.0f,     0x1p-149f, 0x1.fffffcp-127f, 0x1p-126f,
      0x1p-75f, 1.5f,     0x1p-24f,  0x1p24f,          0x1.fffffep127f,
      0x1p64f,  0x1p-64f, kInfinity, 16777217.f,       kNaN};
  std::vector<float> a, b, c;
  for (const float x : numbers) {
    for (const float y : numbers) {
      for (const float z : numbers) {
        for (int signs = 0; signs < 8; ++signs) {
          a.push_back(signs & 1 ? -x : x);
          b.push_back(signs & 2 ? -y : y);
          c.push_back(signs & 4 ? -z : z);
        }
      }
    }
  }
  CheckFusedMulAdd(a, b, c);
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
