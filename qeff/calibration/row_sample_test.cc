// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/row_sample.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace qeff {
namespace {

// Row r holds r, 2 r.
Matrix<float> Rows(int64_t count) {
  Matrix<float> rows(count, 2);
  for (int64_t r = 0; r < count; ++r) {
    rows.row(r)[0] = static_cast<float>(r);
    rows.row(r)[1] = static_cast<float>(2 * r);
  }
  return rows;
}

std::vector<float> Numbers(const RowSample& sample) {
  std::vector<float> numbers;
  for (int64_t r = 0; r < sample.rows().rows(); ++r) {
    numbers.push_back(sample.rows().row(r)[0]);
    EXPECT_EQ(sample.rows().row(r)[1], 2 * numbers.back());
  }
  return numbers;
}

TEST(RowSampleTest, KeepsAllThatFit) {
  RowSample sample(50, 2);
  EXPECT_EQ(sample.rows().rows(), 0);
  sample.Add(Rows(50).view());
  EXPECT_EQ(Numbers(sample).size(), 50u);
}

TEST(RowSampleTest, ThinsEvenlyHoweverRowsCome) {
  constexpr int64_t kRows = 10000;
  const Matrix<float> rows = Rows(kRows);
  RowSample whole(100, 2), pieces(100, 2);
  whole.Add(rows.view());
  for (int64_t r = 0; r < kRows; r += 16) {
    pieces.Add(rows.view().Rows(r, 16));
  }
  const std::vector<float> numbers = Numbers(whole);
  EXPECT_EQ(numbers, Numbers(pieces));
  // About half of the room is used at least; 25 is five deviations below.
  EXPECT_GE(numbers.size(), 25u);
  EXPECT_LE(numbers.size(), 100u);
  int first_half = 0, even = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) {
      EXPECT_LT(numbers[i - 1], numbers[i]);
    }
    first_half += numbers[i] < kRows / 2;
    even += static_cast<int64_t>(numbers[i]) % 2 == 0;
  }
  for (const int share : {first_half, even}) {
    EXPECT_GT(share, static_cast<int>(numbers.size()) / 5);
    EXPECT_LT(share, static_cast<int>(numbers.size()) * 4 / 5);
  }
}

}  // namespace
}  // namespace qeff
