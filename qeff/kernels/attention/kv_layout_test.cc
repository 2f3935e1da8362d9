// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/attention/kv_layout.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(KvLayoutTest, BytesOfTheTables) {
  const KvLayout f32 = *KvLayout::Create(DType::kF32, 6);
  EXPECT_EQ(f32.KeyOffset(5, 31), (5 * 32 + 31) * 4);
  EXPECT_EQ(f32.values_offset(), 6 * 32 * 4);
  EXPECT_EQ(f32.value_row_bytes(), 16 * 4);
  EXPECT_EQ(f32.block_bytes(), 6 * 32 * 4 + 32 * 16 * 4);

  const KvLayout f16 = *KvLayout::Create(DType::kF16, 64);
  EXPECT_EQ(f16.KeyOffset(1, 0), 64);
  EXPECT_EQ(f16.values_offset(), 4096);
  EXPECT_EQ(f16.block_bytes(), 8192);

  const KvLayout i8 = *KvLayout::Create(DType::kI8, 5);
  EXPECT_EQ(i8.KeyOffset(4, 7), 4 * 32 + 7);
  EXPECT_EQ(i8.key_scales_offset(), 192);  // 160, rounded up
  EXPECT_EQ(i8.values_offset(), 192 + 128);
  EXPECT_EQ(i8.value_scales_offset(), 192 + 128 + 32 * 16);
  EXPECT_EQ(i8.block_bytes(), 192 + 128 + 32 * 16 + 128);
}

TEST(KvLayoutTest, PartsBeginAtCacheLines) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8}) {
    for (int64_t n = 1; n <= 200; ++n) {
      const KvLayout layout = *KvLayout::Create(dtype, n);
      EXPECT_EQ(layout.key_scales_offset() % 64, 0);
      EXPECT_EQ(layout.values_offset() % 64, 0);
      EXPECT_EQ(layout.value_scales_offset() % 64, 0);
      EXPECT_EQ(layout.block_bytes() % 64, 0);
    }
  }
}

TEST(KvLayoutTest, RegionsAreWholeBlocks) {
  const KvLayout layout = *KvLayout::Create(DType::kF32, 64);
  EXPECT_EQ(layout.RegionBytes(0).value(), 0u);
  EXPECT_EQ(layout.RegionBytes(1).value(), 16384u);
  EXPECT_EQ(layout.RegionBytes(32).value(), 16384u);
  EXPECT_EQ(layout.RegionBytes(33).value(), 2u * 16384);
  EXPECT_FALSE(layout.RegionBytes(INT64_MAX).valid());
  EXPECT_FALSE(layout.RegionBytes(-64).valid());
}

TEST(KvLayoutTest, Errors) {
  const auto type = KvLayout::Create(DType::kBF16, 64);
  EXPECT_EQ(type.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(type.status().message().find("found BF16"), std::string::npos);
  for (const int64_t n : {int64_t{0}, int64_t{-1}, int64_t{65537}}) {
    const auto layout = KvLayout::Create(DType::kF32, n);
    EXPECT_EQ(layout.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(layout.status().message().find("head_dim"), std::string::npos);
  }
}

}  // namespace
}  // namespace qeff
