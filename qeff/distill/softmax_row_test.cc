// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/softmax_row.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Softmax {
  explicit Softmax(const std::vector<float>& x, float factor = 1.0f)
      : log_p(static_cast<size_t>(SoftmaxRoom(static_cast<int64_t>(x.size()))),
              7.0f),
        p(log_p) {
    log_sum = SoftmaxRow(x.data(), static_cast<int64_t>(x.size()), factor,
                         log_p.data(), p.data());
  }

  std::vector<float> log_p, p;
  double log_sum;
};

std::vector<float> Logits(size_t count, float deviation) {
  const Random random(/*seed=*/3, /*stream=*/count);
  std::vector<float> x;
  for (size_t i = 0; i < count; ++i) {
    x.push_back(deviation * random.NormalAt(i));
  }
  return x;
}

TEST(SoftmaxRowTest, AgreesWithDouble) {
  for (size_t count : {1, 2, 15, 16, 17, 100, 1023, 1025, 5000}) {
    for (float factor : {1.0f, 0.25f, 2.0f}) {
      const std::vector<float> x = Logits(count, 5.0f);
      const Softmax y(x, factor);
      double sum = 0;
      for (float v : x) sum += std::exp(static_cast<double>(v) * factor);
      EXPECT_NEAR(y.log_sum, std::log(sum), 2e-6);
      for (size_t i = 0; i < count; ++i) {
        const double exact = static_cast<double>(x[i]) * factor - std::log(sum);
        // Logarithms down to -80 are rounded three times.
        ASSERT_NEAR(y.log_p[i], exact, 80 * 3 * std::ldexp(1.0, -24));
        ASSERT_NEAR(y.p[i] / std::exp(exact), 1.0, 2e-5);
      }
      for (size_t i = count; i < y.p.size(); ++i) {
        EXPECT_EQ(y.log_p[i], -kInfinity);
        EXPECT_EQ(y.p[i], 0.0f);
      }
    }
  }
}

TEST(SoftmaxRowTest, LargeLogits) {
  const Softmax y({1e4f, -1e4f, 1e4f, -kInfinity});
  EXPECT_NEAR(y.p[0], 0.5, 1e-6);
  EXPECT_EQ(y.p[1], 0.0f);
  EXPECT_NEAR(y.log_p[1], -2e4, 1);
  EXPECT_EQ(y.log_p[3], -kInfinity);
  EXPECT_NEAR(y.log_sum, 1e4 + std::log(2), 1e-6);
}

TEST(SoftmaxRowTest, WhatIsNoDistributionIsNan) {
  for (float bad : {std::nanf(""), kInfinity}) {
    EXPECT_TRUE(std::isnan(Softmax({1.0f, bad, 2.0f}).p[0]));
    EXPECT_TRUE(std::isnan(Softmax({bad, 1.0f}).p[1]));
  }
  EXPECT_TRUE(std::isnan(Softmax({-kInfinity, -kInfinity}).p[0]));
}

TEST(SumRowTest, IsGoodForLongRows) {
  // One part of 0.1 after another in float32 would be 1e-4 off.
  const int64_t count = 1 << 20;
  const double sum = SumRow(count, [](int64_t) { return 0.1f; });
  EXPECT_NEAR(sum / (0.1f * static_cast<double>(count)), 1.0, 1e-6);
}

}  // namespace
}  // namespace qeff
