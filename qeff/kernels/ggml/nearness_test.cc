// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/ggml/nearness.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "hwy/tests/hwy_gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class NearnessTest : public hwy::TestWithParamTarget {};
HWY_TARGET_INSTANTIATE_TEST_SUITE_P(NearnessTest);

TEST_P(NearnessTest, FirstNotBelow) {
  for (const size_t size : {0, 1, 7, 255, 256, 257, 1000}) {
    std::vector<float> values(size);
    for (size_t i = 0; i < size; ++i) {
      values[i] = (i % 2 == 0 ? 1.0f : -1.0f) * std::nextafter(2.0f, 0.0f);
    }
    EXPECT_EQ(FirstNotBelow(2.0f, values), static_cast<int64_t>(size));
    for (size_t i = 0; i < size; i += 1 + i / 5) {
      for (const float bad : {2.0f, -2.0f, kNan, kInfinity, -kInfinity}) {
        std::vector<float> changed = values;
        changed[i] = bad;
        changed.back() = bad;
        EXPECT_EQ(FirstNotBelow(2.0f, changed), static_cast<int64_t>(i)) << bad;
      }
    }
  }
  EXPECT_EQ(FirstNotBelow(kInfinity, {std::numeric_limits<float>::max()}), 1);
}

TEST_P(NearnessTest, FirstFurther) {
  const Random random(1, 0);
  constexpr float kRelative = 0.25f;
  constexpr float kAbsolute = 0.5f;
  for (const size_t block : {1, 3, 32, 96, 256}) {
    const size_t size = block * (block == 1 ? 700 : 5);
    std::vector<float> a(size), b(size), limit(size);
    for (size_t i = 0; i < size; ++i) a[i] = random.NormalAt(i);
    for (size_t i = 0; i < size; ++i) {
      float largest = 0;
      for (size_t j = i / block * block; j < i / block * block + block; ++j) {
        largest = std::max(largest, std::fabs(a[j]));
      }
      limit[i] = kRelative * largest + kAbsolute;
      // Just inside: differences are rounded.
      b[i] = a[i] + (i % 2 == 0 ? 0.999f : -0.999f) * limit[i];
    }
    const int64_t block_elems = static_cast<int64_t>(block);
    EXPECT_EQ(FirstFurther(a, b, block_elems, kRelative, kAbsolute),
              static_cast<int64_t>(size));
    for (size_t i = 0; i < size; i += 1 + i / 5) {
      for (const float bad : {a[i] + 1.001f * limit[i],
                              a[i] - 1.001f * limit[i], kNan, kInfinity}) {
        std::vector<float> changed = b;
        changed[i] = bad;
        changed.back() = kNan;
        EXPECT_EQ(FirstFurther(a, changed, block_elems, kRelative, kAbsolute),
                  static_cast<int64_t>(i))
            << bad << ", blocks of " << block;
      }
    }
  }
}

}  // namespace
}  // namespace qeff
