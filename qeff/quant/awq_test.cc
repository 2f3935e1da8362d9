// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/awq.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/layer_testutil.h"

namespace qeff {
namespace {

// Independent inputs, of which every eighth is 20 times as large.
class AwqTest : public ::testing::Test {
 protected:
  static constexpr int64_t kIn = 96;

  AwqTest() : hessian_(kIn, kIn), magnitudes_(kIn) {
    for (int64_t i = 0; i < kIn; ++i) {
      const double size = i % 8 == 3 ? 20 : 1;
      magnitudes_[static_cast<size_t>(i)] = size;
      hessian_.row(i)[i] = static_cast<float>(size * size);
    }
    options_.scheme.bits = 3;
    options_.scheme.group_size = 32;
  }

  AwqScales Search(const std::vector<int64_t>& channel_of, int64_t channels,
                   int threads = 2) {
    const auto pool = CreateThreadPool(threads).value();
    return SearchAwqScales({q_.view(), k_.view()}, magnitudes_, hessian_,
                           channel_of, channels, options_, *pool);
  }

  const Matrix<float> q_ = NormalMatrix(40, kIn, 1),
                      k_ = NormalMatrix(24, kIn, 2);
  Matrix<float> hessian_;
  std::vector<double> magnitudes_;
  AwqOptions options_;
};

TEST_F(AwqTest, ProtectsChannelsThatCarryMuch) {
  const AwqScales result = Search({}, kIn);
  EXPECT_LT(result.loss, 0.7 * result.identity_loss);
  ASSERT_EQ(result.scales.size(), static_cast<size_t>(kIn));
  for (size_t i = 3; i < result.scales.size(); i += 8) {
    EXPECT_GT(result.scales[i], 1.5f * result.scales[i - 1]);
  }
}

TEST_F(AwqTest, ColumnsOfAChannelShareAScale) {
  std::vector<int64_t> channel_of;
  for (int64_t c = 0; c < kIn; ++c) channel_of.push_back(c % 48);
  const AwqScales result = Search(channel_of, 48);
  EXPECT_EQ(result.scales.size(), 48u);
  EXPECT_LT(result.loss, result.identity_loss);
}

TEST_F(AwqTest, NothingToGain) {
  for (int64_t i = 0; i < kIn; ++i) {
    magnitudes_[static_cast<size_t>(i)] = 1;
    hessian_.row(i)[i] = 0;
  }
  const AwqScales result = Search({}, kIn);
  EXPECT_EQ(result.loss, result.identity_loss);
  EXPECT_EQ(result.scales, std::vector<float>(kIn, 1.0f));
}

TEST_F(AwqTest, DeadInputsAndSameBitsForAnyNumberOfThreads) {
  magnitudes_[5] = 0;
  hessian_.row(5)[5] = 0;
  const AwqScales one = Search({}, kIn, 1), two = Search({}, kIn, 2);
  EXPECT_EQ(one.scales, two.scales);
  EXPECT_EQ(one.loss, two.loss);
  for (const float scale : one.scales) {
    EXPECT_TRUE(std::isfinite(scale) && scale > 0);
  }
}

}  // namespace
}  // namespace qeff
