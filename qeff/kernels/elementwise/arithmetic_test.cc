// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/elementwise/arithmetic.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/kernels/elementwise/elementwise_testutil.h"

namespace qeff {
namespace {

constexpr uint64_t kSeed = 1;
constexpr size_t kSizes = 70;

// Calls body(size, misalignment) for every remainder on every target.
template <typename Body>
void ForEachShape(const Body& body) {
  ForEachTarget([&] {
    for (size_t size = 0; size <= kSizes; ++size) {
      for (size_t misalignment = 0; misalignment < 4; ++misalignment) {
        body(size, misalignment);
      }
    }
  });
}

TEST(ArithmeticTest, AddsAndMultiplies) {
  ForEachShape([](size_t size, size_t misalignment) {
    PoisonedRow x(size, misalignment, kSeed), y(size, 3, kSeed + 1);
    PoisonedRow z = x;
    const std::vector<float> before = x.Copy(), other = y.Copy();
    AddInPlace(y.span(), x.span());
    MultiplyInPlace(y.span(), z.span());
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(x.span()[i], before[i] + other[i]) << i << " of " << size;
      ASSERT_EQ(z.span()[i], before[i] * other[i]) << i << " of " << size;
    }
    x.ExpectSurroundingsUntouched();
    z.ExpectSurroundingsUntouched();
    EXPECT_EQ(y.Copy(), other);
  });
}

TEST(ArithmeticTest, ARowMayBeAddedToItself) {
  std::vector<float> x = {1, 2, 3};
  AddInPlace(x, absl::MakeSpan(x));
  MultiplyInPlace(x, absl::MakeSpan(x));
  EXPECT_EQ(x, (std::vector<float>{4, 16, 36}));
}

TEST(ArithmeticTest, Clamps) {
  ForEachShape([](size_t size, size_t misalignment) {
    PoisonedRow x(size, misalignment, kSeed);
    const std::vector<float> before = x.Copy();
    ClampInPlace(0.5f, x.span());
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(x.span()[i], std::clamp(before[i], -0.5f, 0.5f))
          << i << " of " << size;
    }
    x.ExpectSurroundingsUntouched();
  });
}

TEST(ArithmeticTest, ClampKeepsNaN) {
  ForEachTarget([] {
    std::vector<float> x = {kNaN, kInfinity, -kInfinity};
    ClampInPlace(2.0f, absl::MakeSpan(x));
    EXPECT_TRUE(std::isnan(x[0]));
    EXPECT_EQ(x[1], 2.0f);
    EXPECT_EQ(x[2], -2.0f);
  });
}

TEST(ArithmeticTest, RotatesHeads) {
  ForEachShape([](size_t half, size_t misalignment) {
    if (half == 0) return;
    constexpr size_t kHeads = 3;
    PoisonedRow x(2 * half * kHeads, misalignment, kSeed);
    PoisonedRow cosines(half, 1, kSeed + 1), sines(half, 2, kSeed + 2);
    const std::vector<float> before = x.Copy();
    RotateHeads(cosines.span(), sines.span(), x.span());
    for (size_t h = 0; h < kHeads; ++h) {
      for (size_t i = 0; i < half; ++i) {
        const size_t at = h * 2 * half + i;
        const float a = before[at], b = before[at + half];
        const float c = cosines.span()[i], s = sines.span()[i];
        ASSERT_EQ(x.span()[at], a * c - b * s) << i << " of " << half;
        ASSERT_EQ(x.span()[at + half], b * c + a * s) << i << " of " << half;
      }
    }
    x.ExpectSurroundingsUntouched();
  });
}

TEST(ExpTest, EveryRemainderAsAlone) {
  ForEachShape([](size_t size, size_t misalignment) {
    PoisonedRow x(size, misalignment, kSeed);
    const std::vector<float> before = x.Copy();
    ExpInPlace(x.span());
    for (size_t i = 0; i < size; ++i) {
      std::vector<float> alone = {before[i]};
      ExpInPlace(absl::MakeSpan(alone));
      ASSERT_EQ(x.span()[i], alone[0]) << i << " of " << size;
    }
    x.ExpectSurroundingsUntouched();
  });
}

TEST(ExpTest, IsWithinTheBoundOfTheHeader) {
  double worst = 0, worst_x = 0;
  for (const float sign : {1.0f, -1.0f}) {
    const std::vector<float> xs =
        FloatsBetween(sign * 1e-9f, sign * 104.5f, 499);
    const std::vector<float> ys = SameOnEveryTarget(xs, ExpInPlace);
    for (size_t i = 0; i < xs.size(); ++i) {
      const double exact = std::exp(static_cast<double>(xs[i]));
      if (exact > 3.4028235e38) {
        if (exact > 3.4028237e38) {
          ASSERT_EQ(ys[i], kInfinity) << xs[i];
        }
        continue;
      }
      const double error = std::fabs(ys[i] - exact);
      if (exact < 0x1p-126) {
        ASSERT_LE(error, 0x1p-150 + 0.7 * 0x1p-23 * exact) << xs[i];
      } else if (error / exact > worst) {
        worst = error / exact;
        worst_x = xs[i];
      }
    }
  }
  EXPECT_LE(worst, 0.7 * 0x1p-23) << "x = " << worst_x;
  RecordProperty("worst_in_2_to_minus_23", std::to_string(worst * 0x1p23));
}

TEST(ExpTest, SpecialValues) {
  ForEachTarget([] {
    std::vector<float> x = {0.0f,       -0.0f,   kNaN,  kInfinity,
                            -kInfinity, -104.5f, 89.0f, -3e38f};
    ExpInPlace(absl::MakeSpan(x));
    EXPECT_EQ(x[0], 1.0f);
    EXPECT_EQ(x[1], 1.0f);
    EXPECT_TRUE(std::isnan(x[2]));
    EXPECT_EQ(x[3], kInfinity);
    EXPECT_EQ(x[4], 0.0f);
    EXPECT_EQ(x[5], 0.0f);
    EXPECT_EQ(x[6], kInfinity);
    EXPECT_EQ(x[7], 0.0f);
  });
}

TEST(ArithmeticDeathTest, ChecksSizes) {
  std::vector<float> x(4), y(3);
  EXPECT_DEATH(AddInPlace(y, absl::MakeSpan(x)), "check failed");
  EXPECT_DEATH(MultiplyInPlace(y, absl::MakeSpan(x)), "check failed");
  EXPECT_DEATH(RotateHeads(y, y, absl::MakeSpan(x)), "check failed");
  EXPECT_DEATH(ClampInPlace(-1.0f, absl::MakeSpan(x)), "check failed");
}

}  // namespace
}  // namespace qeff
