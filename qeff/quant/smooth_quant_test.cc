// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/smooth_quant.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr int64_t kCols = 64;

Matrix<float> Normal(int64_t rows, int64_t cols, uint64_t seed) {
  Matrix<float> values(rows, cols);
  const Random random(seed);
  for (int64_t i = 0; i < rows * cols; ++i) {
    values.data()[i] = random.NormalAt(static_cast<uint64_t>(i));
  }
  return values;
}

// `factor`: what a channel in 16 is multiplied by.
Matrix<float> Inputs(float factor) {
  Matrix<float> inputs = Normal(100, kCols, 1);
  for (int64_t r = 0; r < inputs.rows(); ++r) {
    for (int64_t c = 5; c < kCols; c += 16) inputs.row(r)[c] *= factor;
  }
  return inputs;
}

std::vector<float> Maxima(const Matrix<float>& inputs) {
  std::vector<float> maxima(static_cast<size_t>(inputs.cols()));
  for (int64_t r = 0; r < inputs.rows(); ++r) {
    for (size_t c = 0; c < maxima.size(); ++c) {
      maxima[c] = std::max(maxima[c], std::abs(inputs.row(r)[c]));
    }
  }
  return maxima;
}

double Ratio(const std::vector<float>& maxima) {
  const auto range = std::minmax_element(maxima.begin(), maxima.end());
  return static_cast<double>(*range.second) / static_cast<double>(*range.first);
}

class SmoothQuantTest : public ::testing::TestWithParam<std::string> {
 protected:
  SmoothQuantScales Run(const Matrix<float>& inputs,
                        const std::vector<int64_t>& channel_of = {},
                        int64_t channels = kCols, int threads = 2) {
    SmoothQuantOptions options;
    options.scheme = ParseQuantScheme(GetParam()).value();
    options.sampled_rows = 60;
    const auto pool = CreateThreadPool(threads).value();
    return SearchSmoothQuantScales({gate_.view(), up_.view()}, Maxima(inputs),
                                   inputs.view(), channel_of, channels, options,
                                   *pool);
  }

  const Matrix<float> gate_ = Normal(50, kCols, 2);
  const Matrix<float> up_ = Normal(30, kCols, 3);
};

TEST_P(SmoothQuantTest, LargeInputsAreSmoothed) {
  const Matrix<float> inputs = Inputs(30);
  const SmoothQuantScales found = Run(inputs);
  // A static scale is bound by the few large channels: the square of their
  // factor is what there is to gain. 4-bit weights lose most by themselves.
  EXPECT_LT(found.loss,
            (GetParam() == "int4_g32" ? 0.9 : 0.2) * found.identity_loss);
  EXPECT_GE(found.strength, 0.3);
  EXPECT_LE(found.strength, 0.9);
  std::vector<float> maxima = Maxima(inputs);
  const double before = Ratio(maxima);
  for (size_t c = 0; c < maxima.size(); ++c) maxima[c] /= found.scales[c];
  EXPECT_LT(Ratio(maxima), 0.5 * before);
  const auto range =
      std::minmax_element(found.scales.begin(), found.scales.end());
  EXPECT_NEAR(*range.first * *range.second, 1, 1e-4);
  EXPECT_EQ(Run(inputs, {}, kCols, /*threads=*/1).scales, found.scales);
}

TEST_P(SmoothQuantTest, NeverWorseThanNone) {
  for (const float factor : {0.0f, 1.0f}) {
    const SmoothQuantScales found = Run(Inputs(factor));
    EXPECT_LE(found.loss, found.identity_loss);
    for (const float scale : found.scales) {
      EXPECT_TRUE(std::isfinite(scale) && scale > 0) << scale;
    }
    if (factor == 0) {
      EXPECT_EQ(found.scales[5], 1);  // no inputs
    }
  }
}

TEST_P(SmoothQuantTest, ColumnsOfAChannelShareItsScale) {
  std::vector<int64_t> channel_of;
  for (int64_t c = 0; c < kCols; ++c) channel_of.push_back(c % 32);
  const SmoothQuantScales found = Run(Inputs(30), channel_of, 32);
  ASSERT_EQ(found.scales.size(), 32u);
  EXPECT_LT(found.loss, found.identity_loss);
  EXPECT_GT(found.scales[5], found.scales[6]);
  EXPECT_GT(found.scales[21], found.scales[20]);
}

INSTANTIATE_TEST_SUITE_P(Schemes, SmoothQuantTest,
                         ::testing::Values("w8a8", "w8a8_static", "int4_g32"));

}  // namespace
}  // namespace qeff
