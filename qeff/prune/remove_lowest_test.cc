// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/remove_lowest.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/sparsity_pattern.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

Matrix<float> Normal(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix<float> out(rows, cols);
  const Random random(seed);
  for (int64_t i = 0; i < rows * cols; ++i) {
    out.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
  }
  return out;
}

SparsityPattern Pattern(const char* text) {
  const auto pattern = ParseSparsityPattern(text);
  EXPECT_TRUE(pattern.ok()) << pattern.status();
  return *pattern;
}

int64_t Zeros(const float* values, int64_t count) {
  return std::count(values, values + count, 0.0f);
}

class RemoveLowestTest : public testing::Test {
 protected:
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST(SparsityPatternTest, Parses) {
  EXPECT_EQ(SparsityPatternName(Pattern("0.5")), "0.5");
  EXPECT_EQ(SparsityPatternName(Pattern("2:4")), "2:4");
  EXPECT_EQ(Pattern("0.5").Removed(7), 3);
  // 0.7 * 10 is a little under 7 in float64.
  EXPECT_EQ(Pattern("0.7").Removed(10), 7);
  EXPECT_EQ(Pattern("2:4").Removed(10), 4);  // the tail keeps both
  EXPECT_EQ(Pattern("2:4").Removed(11), 5);
  EXPECT_EQ(Pattern("0").Removed(100), 0);
  for (const char* bad : {"", "1", "-0.1", "nan", "x", "4:2", "2:2", "0:4",
                          "2:", ":4", "1:33", "2:4:8", "1e400", "2.0:4"}) {
    EXPECT_FALSE(ParseSparsityPattern(bad).ok()) << bad;
  }
}

TEST_F(RemoveLowestTest, RowsLoseTheirLowest) {
  const float values[] = {3, -1, 2, -4, 0.5f, 6,   //
                          1, 1,  1, 1,  1,    1};  // equal: the first go
  Matrix<float> weights(2, 6);
  std::copy(std::begin(values), std::end(values), weights.data());
  RemoveLowest(Pattern("0.5"), ScoreScope::kRow, {}, weights.view(), *pool_);
  const std::vector<float> expected = {3, 0, 0, -4, 0, 6, 0, 0, 0, 1, 1, 1};
  EXPECT_EQ(std::vector<float>(weights.data(), weights.data() + 12), expected);
}

TEST_F(RemoveLowestTest, ImportanceWeighs) {
  Matrix<float> weights(1, 4);
  const float values[] = {1, -2, 3, -4};
  std::copy(std::begin(values), std::end(values), weights.data());
  const std::vector<float> importance = {8, 1, 1, 1};
  RemoveLowest(Pattern("0.5"), ScoreScope::kRow, importance, weights.view(),
               *pool_);
  const std::vector<float> expected = {1, 0, 0, -4};
  EXPECT_EQ(std::vector<float>(weights.data(), weights.data() + 4), expected);
}

TEST_F(RemoveLowestTest, MatrixIsOneOrder) {
  Matrix<float> weights = Normal(9, 31, 1);
  for (int64_t c = 0; c < 31; ++c) weights.row(4)[c] *= 100;
  const Matrix<float> before = Normal(9, 31, 1);
  RemoveLowest(Pattern("0.4"), ScoreScope::kMatrix, {}, weights.view(), *pool_);
  EXPECT_EQ(Zeros(weights.data(), 9 * 31), 9 * 31 * 4 / 10);
  EXPECT_EQ(Zeros(weights.row(4), 31), 0);
  float largest_gone = 0, smallest_left = 1e9f;
  for (int64_t i = 0; i < 9 * 31; ++i) {
    if (i / 31 == 4) continue;
    const float magnitude = std::abs(before.data()[i]);
    if (weights.data()[i] == 0) {
      largest_gone = std::max(largest_gone, magnitude);
    } else {
      EXPECT_EQ(weights.data()[i], before.data()[i]);
      smallest_left = std::min(smallest_left, magnitude);
    }
  }
  EXPECT_LE(largest_gone, smallest_left);
}

// Exactly, in every group, also of a row that ends within one.
TEST_F(RemoveLowestTest, GroupsAreExact) {
  for (const char* text : {"2:4", "4:8", "1:3", "31:32", "1:32"}) {
    const SparsityPattern pattern = Pattern(text);
    for (const int64_t cols : {1, 2, 3, 4, 31, 64, 67}) {
      Matrix<float> weights = Normal(5, cols, 2);
      RemoveLowest(pattern, ScoreScope::kMatrix, {}, weights.view(), *pool_);
      for (int64_t r = 0; r < 5; ++r) {
        for (int64_t c = 0; c < cols; c += pattern.group) {
          const int64_t size = std::min<int64_t>(pattern.group, cols - c);
          EXPECT_EQ(Zeros(weights.row(r) + c, size),
                    std::max<int64_t>(0, size - pattern.kept))
              << text << " " << cols;
        }
      }
    }
  }
}

TEST_F(RemoveLowestTest, SparserThanAskedStays) {
  Matrix<float> weights = Normal(3, 40, 3);
  RemoveLowest(Pattern("0.7"), ScoreScope::kRow, {}, weights.view(), *pool_);
  const std::vector<float> before(weights.data(), weights.data() + 120);
  RemoveLowest(Pattern("0.5"), ScoreScope::kRow, {}, weights.view(), *pool_);
  RemoveLowest(Pattern("0.7"), ScoreScope::kMatrix, {}, weights.view(), *pool_);
  EXPECT_EQ(std::vector<float>(weights.data(), weights.data() + 120), before);
}

}  // namespace
}  // namespace qeff
