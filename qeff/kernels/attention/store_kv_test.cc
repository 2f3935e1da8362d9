// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/attention/store_kv.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/kernels/attention/attention_testutil.h"
#include "qeff/kernels/attention/kv_reference.h"

namespace qeff {
namespace {

constexpr uint64_t kSeed = 1;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

class StoreKvTest : public ::testing::TestWithParam<DType> {
 protected:
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

// What becomes of element `d` of a row.
float Stored(DType dtype, absl::Span<const float> row, size_t d) {
  if (dtype == DType::kF32) return row[d];
  if (dtype == DType::kF16) return F16ToFloat(FloatToF16(row[d]));
  float absmax = 0;
  for (const float x : row) absmax = std::max(absmax, std::fabs(x));
  const float code = std::nearbyint(row[d] * (127.0f / absmax));
  return code * (absmax / 127.0f);
}

// Every head_dim, any alignment and stride, positions that begin anywhere, on
// every target; what is not stored keeps its bytes.
TEST_P(StoreKvTest, StoresWhatTheHeaderSays) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    for (int64_t n = 1; n <= 140; n += n < 70 ? 1 : 7) {
      const int64_t first = n % 40, tokens = 1 + n % 37, stride = n + n % 3;
      PoisonedCache cache(GetParam(), n, 100);
      const std::vector<float> k = RandomFloats(tokens * stride + 1, kSeed);
      const std::vector<float> v = RandomFloats(tokens * stride + 1, kSeed + 1);
      const auto rows = [&](const std::vector<float>& x) {
        return absl::MakeConstSpan(x).subspan(1);
      };
      StoreKv(cache.layout(), cache.bytes(), first, tokens, rows(k), stride,
              rows(v), stride);
      for (int64_t p = 0; p < 100; ++p) {
        const bool stored = p >= first && p < first + tokens;
        const size_t at = static_cast<size_t>((p - first) * stride);
        for (int64_t d = 0; d < n; ++d) {
          const float key = KeyAt(cache.layout(), cache.bytes().data(), p, d);
          const float value =
              ValueAt(cache.layout(), cache.bytes().data(), p, d);
          if (!stored) {
            ASSERT_TRUE(std::isnan(key) && std::isnan(value)) << p;
            continue;
          }
          const size_t size = static_cast<size_t>(n),
                       i = static_cast<size_t>(d);
          ASSERT_EQ(key, Stored(GetParam(), rows(k).subspan(at, size), i))
              << "position " << p << ", dim " << d << " of " << n;
          ASSERT_EQ(value, Stored(GetParam(), rows(v).subspan(at, size), i))
              << "position " << p << ", dim " << d << " of " << n;
        }
        for (int64_t d = n; d < cache.layout().value_stride_elems(); ++d) {
          const float padding =
              ValueAt(cache.layout(), cache.bytes().data(), p, d);
          ASSERT_TRUE(stored ? padding == 0 : std::isnan(padding));
        }
      }
    }
  }
}

TEST_P(StoreKvTest, TokensCanBeSplitAnywhere) {
  PoisonedCache whole(GetParam(), 20, 70);
  whole.Fill(70, kSeed);
  PoisonedCache parts(GetParam(), 20, 70);
  const std::vector<float> k = RandomFloats(70 * 20, kSeed);
  const std::vector<float> v = RandomFloats(70 * 20, kSeed + 1);
  for (int64_t t = 69; t >= 0; --t) {
    const size_t at = static_cast<size_t>(t * 20);
    StoreKv(parts.layout(), parts.bytes(), t, 1,
            absl::MakeConstSpan(k).subspan(at), 20,
            absl::MakeConstSpan(v).subspan(at), 20);
  }
  EXPECT_EQ(whole.bytes(), parts.bytes());
}

TEST_P(StoreKvTest, NaNAndZero) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    PoisonedCache cache(GetParam(), 20, 1);
    std::vector<float> k(20, 1.0f);
    const std::vector<float> v(20, 0.0f);
    k[19] = kNaN;
    StoreKv(cache.layout(), cache.bytes(), 0, 1, k, 20, v, 20);
    const auto bytes = cache.bytes().data();
    EXPECT_TRUE(std::isnan(KeyAt(cache.layout(), bytes, 0, 19)));
    EXPECT_EQ(std::isnan(KeyAt(cache.layout(), bytes, 0, 0)),
              GetParam() == DType::kI8);
    EXPECT_EQ(ValueAt(cache.layout(), bytes, 0, 3), 0.0f);
    k[19] = std::numeric_limits<float>::infinity();
    StoreKv(cache.layout(), cache.bytes(), 0, 1, k, 20, v, 20);
    EXPECT_FALSE(std::isfinite(KeyAt(cache.layout(), bytes, 0, 19)));
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, StoreKvTest,
                         ::testing::Values(DType::kF32, DType::kF16,
                                           DType::kI8),
                         [](const ::testing::TestParamInfo<DType>& info) {
                           return std::string(DTypeName(info.param).data(),
                                              DTypeName(info.param).size());
                         });

TEST(StoreKvDeathTest, ChecksSizes) {
  PoisonedCache cache(DType::kF32, 8, 32);
  const std::vector<float> x(16);
  StoreKv(cache.layout(), cache.bytes(), 30, 2, x, 8, x, 8);
  EXPECT_DEATH(StoreKv(cache.layout(), cache.bytes(), 31, 2, x, 8, x, 8),
               "check failed");
  EXPECT_DEATH(StoreKv(cache.layout(), cache.bytes(), 0, 3, x, 8, x, 8),
               "check failed");
  EXPECT_DEATH(StoreKv(cache.layout(), cache.bytes(), 0, 1, x, 7, x, 8),
               "check failed");
}

}  // namespace
}  // namespace qeff
