// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gptq_sweep.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {
namespace {

// Whole numbers from 0 to 9.
class Digits {
 public:
  struct Params {};
  int64_t group_elems() const { return 2; }
  const Params* Row(int64_t /*row*/) const { return params_; }
  uint8_t Code(float wanted, const Params&) const {
    return static_cast<uint8_t>(
        std::nearbyint(std::fmin(std::fmax(wanted, 0.0f), 9.0f)));
  }
  float Value(uint8_t code, const Params&) const { return code; }
  bool Saturates(float wanted, uint8_t code, const Params&) const {
    return std::abs(wanted - code) > 0.5f;
  }

 private:
  Params params_[2];
};

TEST(GptqSweep, CarriesErrorsOnInTheOrder) {
  const auto pool = *CreateThreadPool(1);
  Matrix<float> weights(1, 3), factor(3, 3);
  const float values[] = {12, 3.25f, 1.5f};
  std::copy_n(values, 3, weights.data());
  // Column 1 first, which column 2 makes up for; column 0 is alone.
  const std::vector<int64_t> order = {1, 2, 0};
  factor.row(0)[0] = factor.row(1)[1] = factor.row(2)[2] = 2;
  factor.row(0)[1] = 1;
  GptqLayer layer(weights.view(), order, factor.view(), *pool);

  // 3.25 -> 3 leaves .25; 1.5 + .25 / 2 -> 2.
  const GptqSweep sweep = layer.Quantize(Digits(), /*propagate=*/true);
  EXPECT_EQ(sweep.codes, std::vector<uint8_t>({3, 2, 9}));
  EXPECT_EQ(CodesInPlace(sweep.codes, order, *pool),
            std::vector<uint8_t>({9, 3, 2}));
  EXPECT_EQ(sweep.saturated, std::vector<int64_t>({1}));
  // (.25 * 2)^2 + (.25 - .5 * 2)^2 + (3 * 2)^2.
  EXPECT_EQ(sweep.losses, std::vector<double>({0.25 + 0.5625 + 36}));
}

TEST(GptqSweep, RoundsWithoutPropagation) {
  const auto pool = *CreateThreadPool(1);
  Matrix<float> weights(1, 2), factor(2, 2);
  weights.data()[0] = 3.4f;
  weights.data()[1] = 1.4f;
  factor.row(0)[0] = factor.row(1)[1] = 1;
  factor.row(0)[1] = 1;
  const std::vector<int64_t> order = {0, 1};
  GptqLayer layer(weights.view(), order, factor.view(), *pool);
  EXPECT_EQ(layer.Quantize(Digits(), false).codes,
            std::vector<uint8_t>({3, 1}));
  EXPECT_EQ(layer.Quantize(Digits(), true).codes, std::vector<uint8_t>({3, 2}));
}

TEST(GptqSweep, TakesWhatLosesLess) {
  struct Choice {
    int row = 0;
    void CopyRow(const Choice& from, int64_t) { row = from.row; }
  };
  GptqSweep best{{1, 2}, {4.0, 4.0}, {0, 0}};
  const GptqSweep other{{7, 8}, {3.0, 4.0}, {1, 1}};
  Choice chosen, tried{5};
  TakeRowIfBetter(other, tried, 1, 1, &best, &chosen);
  EXPECT_EQ(chosen.row, 0);
  TakeRowIfBetter(other, tried, 0, 1, &best, &chosen);
  EXPECT_EQ(chosen.row, 5);
  EXPECT_EQ(best.codes, std::vector<uint8_t>({7, 2}));
  EXPECT_EQ(best.losses, std::vector<double>({3, 4}));
}

}  // namespace
}  // namespace qeff
