// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/squared_norm.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

std::vector<float> Values(size_t count) {
  const Random random(7);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = random.NormalAt(i);
  return values;
}

TEST(SquaredNormTest, AnyLengthAndNumberOfThreads) {
  for (const size_t count : {0, 1, 31, 32, 33, 65535, 65537, 200003}) {
    const std::vector<float> values = Values(count);
    long double expected = 0;
    for (const float value : values) {
      expected += static_cast<long double>(value) * value;
    }
    const double one = SquaredNorm(values, *CreateThreadPool(1).value());
    // Squares of float32 are exact in double; of the additions each rounds by
    // half a unit at most, and no sum is larger than the whole.
    EXPECT_NEAR(one, static_cast<double>(expected),
                static_cast<double>(expected) * static_cast<double>(count) *
                    std::numeric_limits<double>::epsilon());
    for (const int threads : {2, 3, 8}) {
      EXPECT_EQ(SquaredNorm(values, *CreateThreadPool(threads).value()), one);
    }
  }
}

TEST(SquaredNormTest, FiniteOnlyIfAllValuesAre) {
  const auto pool = CreateThreadPool(2).value();
  constexpr float kMax = std::numeric_limits<float>::max();
  std::vector<float> values(100000, kMax);
  const double largest = SquaredNorm(values, *pool);
  EXPECT_NEAR(largest / kMax / kMax, 1e5, 1e-6);
  for (const size_t at : {size_t{0}, size_t{70000}, values.size() - 1}) {
    for (const float bad : {INFINITY, -INFINITY, NAN}) {
      values[at] = bad;
      EXPECT_FALSE(std::isfinite(SquaredNorm(values, *pool)));
      values[at] = kMax;
    }
  }
  // The smallest count as well.
  const std::vector<float> tiny(3, std::numeric_limits<float>::denorm_min());
  EXPECT_GT(SquaredNorm(tiny, *pool), 0);
}

}  // namespace
}  // namespace qeff
