// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/learned_scales.h"

#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/train/trainable_weights.h"
#include "qeff/transformer/gradient_testutil.h"

namespace qeff {
namespace {

constexpr int64_t kRows = 9, kCols = 72;

double SquaredError(const Matrix<float>& a, const Matrix<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.span().size(); ++i) {
    const double d = a.span()[i] - b.span()[i];
    sum += d * d;
  }
  return sum;
}

TEST(LearnedScalesTest, BeginsBetterThanTheLargestWeightSays) {
  const auto pool = *CreateThreadPool(2);
  const Matrix<float> weights = RandomMatrix(kRows, kCols, 1);
  for (const char* name : {"int2_g64", "int3_g32", "int4", "int8_g64"}) {
    const QuantScheme scheme = *ParseQuantScheme(name);
    const LearnedScales scales(scheme, weights.view(), *pool);
    Matrix<float> values(kRows, kCols);
    scales.Round(weights.view(), values.view(), *pool);
    Matrix<float> nearest = RandomMatrix(kRows, kCols, 1);
    RoundToScheme(scheme, nearest.view(), *pool);
    EXPECT_LE(SquaredError(values, weights),
              SquaredError(nearest, weights) * 1.000001)
        << name;
  }
}

TEST(LearnedScalesTest, EncodesWhatItRoundsTo) {
  const auto pool = *CreateThreadPool(2);
  const Matrix<float> weights = RandomMatrix(kRows, kCols, 1);
  for (const char* name : {"int2_g64", "int3_g32", "int4", "int8"}) {
    const QuantScheme scheme = *ParseQuantScheme(name);
    LearnedScales scales(scheme, weights.view(), *pool);
    const absl::Span<float> factors = scales.log_factors().span();
    for (size_t i = 0; i < factors.size(); ++i) {
      factors[i] = 0.1f * static_cast<float>(i % 7) - 0.3f;
    }
    Matrix<float> values(kRows, kCols);
    scales.Round(weights.view(), values.view(), *pool);
    std::vector<uint8_t> packed, bytes;
    scales.Encode(weights.view(), 2, 5, &packed, &bytes);
    QuantizedRowsView view;
    view.bits = scheme.bits;
    view.cols = kCols;
    view.group_elems = scheme.group_size == 0 ? kCols : scheme.group_size;
    view.packed = packed;
    view.scales = bytes;
    std::vector<float> read(5 * kCols);
    DequantizeRows(view, 0, 5, absl::MakeSpan(read));
    for (size_t i = 0; i < read.size(); ++i) {
      ASSERT_EQ(read[i], values.span()[2 * kCols + i]) << name << " " << i;
    }
  }
}

// One group by hand: scale 0.5 of 2 bits has the codes -1, -.5, 0, .5.
TEST(LearnedScalesTest, GradientsAreThoseOfThePaper) {
  const auto pool = *CreateThreadPool(1);
  Matrix<float> weights(1, 8);
  const float w[] = {-1.0f, 0.5f, 0.3f, -0.4f, 0.9f, -2.0f, 0.0f, 0.5f};
  std::copy(w, w + 8, weights.row(0));
  QuantScheme scheme = *ParseQuantScheme("int2_g8");
  scheme.scale_rule = ScaleRule::kAbsMax;  // positive scales
  LearnedScales scales(scheme, weights.view(), *pool);
  Matrix<float> values(1, 8);
  scales.Round(weights.view(), values.view(), *pool);
  const float s = std::abs(values.row(0)[1]);
  // Bring it to .5 whatever it began with.
  scales.log_factors().row(0)[0] = std::log(0.5f / s);
  scales.Round(weights.view(), values.view(), *pool);
  const float expected[] = {-1.0f, 0.5f, 0.5f, -0.5f, 0.5f, -1.0f, 0.0f, 0.5f};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(values.row(0)[i], expected[i]) << i;
  Matrix<float> gradient(1, 8);
  for (int i = 0; i < 8; ++i) {
    gradient.row(0)[i] = static_cast<float>(i + 1);
  }
  scales.Backward(weights.view(), gradient.view(), *pool);
  // Clipped: .9 (code 1.8 > 1.5) and -2 (code -4 < -2.5).
  const float dw[] = {1, 2, 3, 4, 0, 0, 7, 8};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(gradient.row(0)[i], dw[i]) << i;
  // d s: 0, 0, 3 * (1 - .6), 4 * (-1 + .8), 5 * 1, 6 * -2, 0, 0; times s.
  EXPECT_NEAR(scales.gradient().row(0)[0], 0.5 * (3 * 0.4 - 4 * 0.2 + 5 - 12),
              1e-5);
}

}  // namespace
}  // namespace qeff
