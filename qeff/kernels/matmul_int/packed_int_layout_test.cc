// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/packed_int_layout.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(PackedIntLayoutTest, SizesOfAModelsMatrix) {
  const auto int4 = PackedIntLayout::Create(4, 5632, 2048, 128, DType::kBF16);
  ASSERT_TRUE(int4.ok());
  EXPECT_EQ(int4->groups(), 16);
  EXPECT_EQ(int4->panels(), 176);
  // 4.125 bits a weight.
  EXPECT_EQ(int4->total_bytes(), int64_t{5632} * 2048 * 33 / 64);
  const auto int8 = PackedIntLayout::Create(8, 33, 9, 0, DType::kF32);
  ASSERT_TRUE(int8.ok());
  EXPECT_EQ(int8->group_elems(), 9);
  EXPECT_EQ(int8->panels(), 2);
  EXPECT_EQ(int8->panel_bytes(), 32 * 16 + 32 * 4);
}

TEST(PackedIntLayoutTest, FewerBitsAndZeroPoints) {
  const auto int3 =
      PackedIntLayout::Create(3, 64, 2048, 64, DType::kBF16, true);
  ASSERT_TRUE(int3.ok());
  EXPECT_EQ(int3->step_bytes(), 384);
  // 3 bits a weight, 16 and 8 bits a group.
  EXPECT_EQ(int3->total_bytes(), 64 * (2048 * 3 / 8 + 32 * 3));
  const auto int2 = PackedIntLayout::Create(2, 32, 56, 24, DType::kF16, true);
  ASSERT_TRUE(int2.ok());
  // Groups of 24, 24 and 8 columns: 2, 2 and 1 steps; 96 zero points.
  EXPECT_EQ(int2->zeros_bytes(), 128);
  EXPECT_EQ(int2->panel_bytes(), 5 * 128 + 3 * 64 + 128);
  const auto create = [](int bits, bool asymmetric) {
    return PackedIntLayout::Create(bits, 1, 1 << 16, 0, DType::kF16,
                                   asymmetric);
  };
  EXPECT_TRUE(create(8, false).ok() && create(4, true).ok());
  EXPECT_FALSE(create(8, true).ok());
}

TEST(PackedIntLayoutTest, ShorterLastGroup) {
  const auto layout = PackedIntLayout::Create(4, 1, 75, 32, DType::kF16);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->groups(), 3);
  EXPECT_EQ(layout->GroupCols(1), 32);
  EXPECT_EQ(layout->GroupCols(2), 11);
  EXPECT_EQ(layout->GroupSteps(2), 2);
  EXPECT_EQ(layout->panel_bytes(), (4 + 4 + 2) * 128 + 3 * 64);
}

TEST(PackedIntLayoutTest, RefusesWhatItCannotHold) {
  const auto message = [](int bits, int64_t rows, int64_t cols, int64_t group,
                          DType dtype) {
    const auto layout = PackedIntLayout::Create(bits, rows, cols, group, dtype);
    return layout.ok() ? std::string() : std::string(layout.status().message());
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(message(5, 1, 8, 0, DType::kF16), "bits"));
  EXPECT_TRUE(has(message(4, 0, 8, 0, DType::kF16), "shape"));
  EXPECT_TRUE(has(message(4, 1, -8, 0, DType::kF16), "shape"));
  EXPECT_TRUE(has(message(4, 1, int64_t{1} << 31, 0, DType::kF16), "shape"));
  EXPECT_TRUE(has(message(4, 1, 64, 12, DType::kF16), "group size"));
  EXPECT_TRUE(has(message(4, 1, 64, -8, DType::kF16), "group size"));
  EXPECT_TRUE(has(message(4, 1, 1 << 18, 0, DType::kF16), "group size"));
  EXPECT_TRUE(has(message(4, 1, 64, 32, DType::kI8), "scales"));
  EXPECT_EQ(message(4, 1, 10, 12, DType::kF16), "");
}

TEST(ActivationLayoutTest, TilesAreEvenAndPartsDoNotOverlap) {
  for (int64_t tokens = 1; tokens <= 100; ++tokens) {
    const ActivationLayout layout(tokens, 75, 32);
    EXPECT_EQ(layout.padded_cols(), 80);
    int64_t sum = 0;
    for (int64_t i = 0; i < layout.tiles(); ++i) {
      EXPECT_EQ(layout.TileBegin(i), sum);
      EXPECT_GE(layout.TileTokens(i), tokens / layout.tiles());
      EXPECT_LE(layout.TileTokens(i), kMaxTileTokens);
      EXPECT_EQ(layout.SumsOffset(i) - layout.SumsOffset(0), sum * 3 * 4);
      sum += layout.TileTokens(i);
    }
    EXPECT_EQ(sum, tokens);
    EXPECT_GE(layout.SumsOffset(0), tokens * 80);
    EXPECT_GE(layout.ScalesOffset(), layout.SumsOffset(0) + tokens * 12);
    EXPECT_GE(layout.total_bytes(), layout.ScalesOffset() + tokens * 4);
    EXPECT_EQ(layout.SumsOffset(0) % 64, 0);
    EXPECT_EQ(layout.ScalesOffset() % 64, 0);
  }
}

}  // namespace
}  // namespace qeff
