// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gptq_refine.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {
namespace {

// Whole multiples, -4 to 4, of a scale for each pair of columns.
class Multiples {
 public:
  struct Params {
    float scale;
  };
  static constexpr bool kFreeScales = true;
  int64_t group_elems() const { return 2; }
  const Params* Row(int64_t /*row*/) const { return params_; }
  uint8_t Code(float wanted, const Params& params) const {
    const float steps = wanted / params.scale;
    return static_cast<uint8_t>(
        std::nearbyint(std::fmin(std::fmax(steps, -4.0f), 4.0f)) + 4);
  }
  float Unscaled(uint8_t code, const Params&) const {
    return static_cast<float>(code) - 4;
  }
  float Value(uint8_t code, const Params& params) const {
    return Unscaled(code, params) * params.scale;
  }
  bool Saturates(float wanted, uint8_t code, const Params& params) const {
    return std::abs(wanted - Value(code, params)) > 0.501f * params.scale;
  }
  void SetScale(int64_t /*row*/, int64_t group, double scale) {
    params_[group].scale = static_cast<float>(scale);
  }
  void CopyRow(const Multiples& from, int64_t /*row*/) {
    std::copy_n(from.params_, 2, params_);
  }

 private:
  Params params_[2] = {{1}, {1}};
};

// A model of one row and four columns.
struct Layer {
  Layer() : weights(1, 4), hessian(4, 4) {
    const float w[] = {2.1f, -1.0f, 3.3f, 0.4f};
    const float h[] = {4, 1, 0, 1, 1, 3, 1, 0, 0, 1, 5, 2, 1, 0, 2, 6};
    std::copy_n(w, 4, weights.data());
    std::copy_n(h, 16, hessian.data());
  }

  double Loss(const std::vector<uint8_t>& codes,
              const Multiples& groups) const {
    double d[4], loss = 0;
    for (int64_t c = 0; c < 4; ++c) {
      d[c] = weights.row(0)[c] -
             groups.Value(codes[static_cast<size_t>(c)], groups.Row(0)[c / 2]);
    }
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) loss += d[i] * hessian.row(i)[j] * d[j];
    }
    return loss;
  }

  Matrix<float> weights, hessian;
  const std::vector<int64_t> order = {3, 2, 0, 1};
};

TEST(GptqRefine, NoSingleChangeOfACodeOrScaleIsBetter) {
  const auto pool = *CreateThreadPool(1);
  const Layer layer;
  Multiples groups;
  std::vector<uint8_t> codes = {4, 4, 4, 4};  // all zero
  std::vector<double> losses = {layer.Loss(codes, groups)};
  std::vector<int64_t> saturated = {9};
  const double before = losses[0];
  GptqRefiner(layer.weights.view(), layer.hessian.view(), layer.order, 3, *pool)
      .Refine(&groups, &codes, &losses, &saturated);
  EXPECT_LT(losses[0], before / 20);
  EXPECT_NEAR(losses[0], layer.Loss(codes, groups), 1e-5);
  EXPECT_EQ(saturated[0], 0);
  for (size_t c = 0; c < 4; ++c) {
    for (const int step : {-1, 1}) {
      std::vector<uint8_t> other = codes;
      other[c] = static_cast<uint8_t>(other[c] + step);
      EXPECT_GE(layer.Loss(other, groups), losses[0] - 1e-6) << c << step;
    }
  }
}

// What is better already stays.
TEST(GptqRefine, KeepsWhatLosesLess) {
  const auto pool = *CreateThreadPool(1);
  const Layer layer;
  Multiples groups;
  std::vector<uint8_t> codes = {6, 3, 7, 4};
  std::vector<double> losses = {0};
  std::vector<int64_t> saturated = {9};
  GptqRefiner(layer.weights.view(), layer.hessian.view(), layer.order, 3, *pool)
      .Refine(&groups, &codes, &losses, &saturated);
  EXPECT_EQ(codes, std::vector<uint8_t>({6, 3, 7, 4}));
  EXPECT_EQ(losses[0], 0);
  EXPECT_EQ(saturated[0], 9);
  EXPECT_EQ(groups.Row(0)[0].scale, 1);
}

TEST(SolveSymmetric, SolvesAndLeavesOutWhatIsEmpty) {
  Matrix<double> a(3, 3);
  a.row(0)[0] = 4;
  a.row(0)[2] = a.row(2)[0] = 1;
  a.row(2)[2] = 2;
  std::vector<double> b = {6, 5, 5};
  ASSERT_TRUE(SolveSymmetric(a.view(), absl::MakeSpan(b)));
  EXPECT_NEAR(b[0], 1, 1e-12);
  EXPECT_EQ(b[1], 0);
  EXPECT_NEAR(b[2], 2, 1e-12);
  b[0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(SolveSymmetric(a.view(), absl::MakeSpan(b)));
}

}  // namespace
}  // namespace qeff
