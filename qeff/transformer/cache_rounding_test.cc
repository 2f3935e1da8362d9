// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/cache_rounding.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

TEST(CacheRoundingTest, GroupsOfEachHeadHaveTheirOwnPowerOfTwo) {
  constexpr int64_t kRows = 3, kHeads = 2, kHeadDim = 48;
  const auto pool = CreateThreadPool(2).value();
  Matrix<float> x(kRows, kHeads * kHeadDim);
  const Random random(7);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < x.cols(); ++c) {
      x.row(r)[c] =
          std::ldexp(random.NormalAt(static_cast<uint64_t>(r * x.cols() + c)),
                     static_cast<int>(c % 5) - 2);
    }
  }
  Matrix<float> before(kRows, x.cols());
  std::copy_n(x.data(), kRows * x.cols(), before.data());
  RoundCache(Codebook::kMxint8, kHeadDim, x.view(), *pool);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t h = 0; h < kHeads; ++h) {
      // A head is a group of 32 and one of 16.
      for (const auto& [begin, count] : {std::make_pair(0, 32), {32, 16}}) {
        const int64_t first = h * kHeadDim + begin;
        float absmax = 0;
        for (int64_t i = 0; i < count; ++i) {
          absmax = std::max(absmax, std::abs(before.row(r)[first + i]));
        }
        // OCP MX 1.0: codes of 1/64 of the largest power of two below.
        const float step = std::exp2(std::floor(std::log2(absmax))) / 64;
        for (int64_t i = 0; i < count; ++i) {
          const float want = std::min(
              std::nearbyint(std::abs(before.row(r)[first + i]) / step),
              127.0F);
          EXPECT_EQ(std::abs(x.row(r)[first + i]), want * step);
        }
      }
    }
  }
  // What is rounded stays.
  Matrix<float> again(kRows, x.cols());
  std::copy_n(x.data(), kRows * x.cols(), again.data());
  RoundCache(Codebook::kMxint8, kHeadDim, again.view(), *pool);
  for (int64_t i = 0; i < kRows * x.cols(); ++i) {
    EXPECT_EQ(again.data()[i], x.data()[i]);
  }
}

TEST(CacheRoundingTest, NotANumberShows) {
  const auto pool = CreateThreadPool(1).value();
  Matrix<float> x(1, 64);
  for (int64_t i = 0; i < 64; ++i) x.data()[i] = 1;
  x.data()[40] = std::numeric_limits<float>::infinity();
  RoundCache(Codebook::kMxint8, 64, x.view(), *pool);
  EXPECT_EQ(x.data()[0], 1);
  EXPECT_TRUE(std::isnan(x.data()[32]));
}

}  // namespace
}  // namespace qeff
