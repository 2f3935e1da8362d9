// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/quantize_activations.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/kernels/matmul_int/matmul_int_reference.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class QuantizeActivationsTest : public ::testing::Test {
 protected:
  void SetUp() override { targets_ = hwy::SupportedAndGeneratedTargets(); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  // Quantizes and checks every byte that has a meaning against the reference.
  // `fixed_scale` 0: each token has its own.
  void Check(const ActivationLayout& layout, absl::Span<const float> x,
             int64_t stride, float fixed_scale = 0) {
    const size_t bytes = static_cast<size_t>(layout.total_bytes());
    for (int64_t target : targets_) {
      hwy::SetSupportedTargetsForTest(target);
      SCOPED_TRACE(hwy::TargetName(target));
      AlignedArray<uint8_t> packed(bytes);
      std::memset(packed.data(), 0xEE, bytes);
      if (fixed_scale == 0) {
        QuantizeActivations(layout, x, stride, packed.span(), *pool_);
      } else {
        QuantizeActivationsFixed(layout, fixed_scale, x, stride, packed.span(),
                                 *pool_);
      }
      for (int64_t i = 0; i < layout.tiles(); ++i) {
        for (int64_t t = 0; t < layout.TileTokens(i); ++t) {
          const float* row = x.data() + (layout.TileBegin(i) + t) * stride;
          CheckToken(layout, packed.data(), i, t,
                     QuantizeTokenReference(row, layout.cols(), fixed_scale));
        }
      }
    }
  }

  static void CheckToken(const ActivationLayout& layout, const uint8_t* packed,
                         int64_t tile, int64_t t, const ReferenceToken& want) {
    const int64_t n = layout.TileTokens(tile);
    std::vector<int32_t> sums(static_cast<size_t>(layout.groups()));
    for (int64_t c = 0; c < layout.padded_cols(); ++c) {
      const int8_t code = static_cast<int8_t>(
          packed[layout.CodesOffset(tile) + (c / 4 * n + t) * 4 + c % 4]);
      const bool inside = c < layout.cols();
      ASSERT_EQ(code, inside ? want.codes[static_cast<size_t>(c)] : 0)
          << "column " << c << " of " << layout.cols();
      if (inside) sums[static_cast<size_t>(c / layout.group_elems())] += code;
    }
    for (int64_t g = 0; g < layout.groups(); ++g) {
      int32_t sum;
      std::memcpy(&sum, packed + layout.SumsOffset(tile) + (g * n + t) * 4, 4);
      ASSERT_EQ(sum, -8 * sums[static_cast<size_t>(g)]) << "group " << g;
    }
    float scale;
    std::memcpy(
        &scale,
        packed + layout.ScalesOffset() + (layout.TileBegin(tile) + t) * 4, 4);
    if (std::isnan(want.scale)) {
      ASSERT_TRUE(std::isnan(scale));
    } else {
      ASSERT_EQ(scale, want.scale);
    }
  }

  std::vector<int64_t> targets_;
  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

// Padding between rows is NaN, which would show in the scale.
TEST_F(QuantizeActivationsTest, EveryRemainder) {
  for (int64_t cols = 1; cols <= 80; ++cols) {
    for (int64_t group : {int64_t{8}, int64_t{24}, int64_t{64}, cols}) {
      const int64_t tokens = 1 + cols % 29;
      const int64_t stride = cols + cols % 3;
      const size_t start = static_cast<size_t>(cols % 5);
      const Random random(static_cast<uint64_t>(cols));
      std::vector<float> x(start + static_cast<size_t>(tokens * stride), kNan);
      for (int64_t i = 0; i < tokens * stride; ++i) {
        if (i % stride < cols) {
          x[start + static_cast<size_t>(i)] =
              random.NormalAt(static_cast<uint64_t>(i));
        }
      }
      const ActivationLayout layout(tokens, cols, group);
      Check(layout, absl::MakeConstSpan(x).subspan(start), stride);
      // Of a normal number in four more than 127 of it.
      Check(layout, absl::MakeConstSpan(x).subspan(start), stride, 0.009f);
    }
  }
}

TEST_F(QuantizeActivationsTest, SpecialTokens) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kMax = std::numeric_limits<float>::max();
  const float extremes[] = {
      0.0f,       -0.0f, kNan,  -kNan,     kInfinity,
      -kInfinity, kMax,  -kMax, 0x1p-149f, kSmallestActivation,
      0x1p-120f,  -1.0f};
  for (float extreme : extremes) {
    for (int64_t place = 0; place < 19; ++place) {
      std::vector<float> x(38, 0.0f);
      x[static_cast<size_t>(place)] = extreme;
      for (size_t i = 19; i < 38; ++i) x[i] = 1.0f;  // the next is unharmed
      Check(ActivationLayout(2, 19, 8), x, 19);
      for (const float scale : {1.0f, 0x1p-126f, 0x1p126f}) {
        Check(ActivationLayout(2, 19, 8), x, 19, scale);
      }
    }
  }
}

// Halves of a step round to even.
TEST_F(QuantizeActivationsTest, Ties) {
  std::vector<float> x;
  for (int i = -254; i <= 254; ++i) x.push_back(0.5f * static_cast<float>(i));
  const int64_t cols = static_cast<int64_t>(x.size());
  Check(ActivationLayout(1, cols, cols), x, cols);
  Check(ActivationLayout(1, cols, cols), x, cols, 1.0f);
  Check(ActivationLayout(1, cols, cols), x, cols, 0.5f);
}

TEST_F(QuantizeActivationsTest, FixedScalesSaturate) {
  const std::vector<float> x = {-1000,    -12.8f, -12.7f, 12.74f,
                                12.7501f, 1e30f,  0.05f,  0.15f};
  const ReferenceToken token = QuantizeTokenReference(x.data(), 8, 0.1f);
  EXPECT_EQ(token.codes,
            std::vector<int>({-127, -127, -127, 127, 127, 127, 0, 2}));
  EXPECT_EQ(token.scale, 0.1f);
  Check(ActivationLayout(1, 8, 8), x, 8, 0.1f);
  for (const float no_scale : {0.0f, -1.0f, 0x1p-127f, 0x1p127f, kNan}) {
    EXPECT_FALSE(IsActivationScale(no_scale)) << no_scale;
  }
}

TEST_F(QuantizeActivationsTest, ErrorIsWithinTheBoundOfTheHeader) {
  const Random random(7);
  std::vector<float> x(4096);
  for (size_t i = 0; i < x.size(); ++i) x[i] = random.NormalAt(i);
  const ReferenceToken token =
      QuantizeTokenReference(x.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE(std::abs(static_cast<double>(x[i]) -
                       token.codes[i] * static_cast<double>(token.scale)),
              (0.5 + std::exp2(-15)) * static_cast<double>(token.scale));
  }
}

}  // namespace
}  // namespace qeff
