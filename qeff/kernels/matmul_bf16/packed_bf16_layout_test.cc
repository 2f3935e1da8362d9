// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"

#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

TEST(PackedBF16LayoutTest, Sizes) {
  const auto layout = PackedBF16Layout::Create(33, 5);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->panels(), 2);
  EXPECT_EQ(layout->pairs(), 3);
  EXPECT_EQ(layout->panel_bytes(), 3 * 128);
  EXPECT_EQ(layout->total_bytes(), 2 * 3 * 128);
  EXPECT_EQ(layout->PairOffset(0, 0), 0);
  EXPECT_EQ(layout->PairOffset(1, 0), 4);
  EXPECT_EQ(layout->PairOffset(31, 2), 2 * 128 + 31 * 4);
  EXPECT_EQ(layout->PairOffset(32, 1), 3 * 128 + 128);
}

TEST(PackedBF16LayoutTest, PartsOfASparseMatrix) {
  const auto dense = *PackedBF16Layout::Create(33, 19);
  const auto sparse = *dense.Sparse(640);
  EXPECT_TRUE(sparse.sparse());
  EXPECT_FALSE(dense.sparse());
  EXPECT_EQ(sparse.panel_bytes(), dense.panel_bytes());
  EXPECT_EQ(sparse.MasksOffset(), 64);         // 2 panels
  EXPECT_EQ(sparse.panel_masks_bytes(), 128);  // 10 pairs
  EXPECT_EQ(sparse.ValuesOffset(), 64 + 2 * 128);
  EXPECT_EQ(sparse.total_bytes(), 64 + 2 * 128 + 640);
  EXPECT_EQ(sparse.Dense().total_bytes(), dense.total_bytes());
  const int64_t most = dense.total_bytes() + 128;
  EXPECT_TRUE(dense.Sparse(most).ok());
  for (const int64_t bytes : {int64_t{-128}, int64_t{0}, int64_t{64},
                              int64_t{129}, most + 64, INT64_MAX / 64 * 64}) {
    EXPECT_EQ(dense.Sparse(bytes).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bytes;
  }
}

TEST(PackedBF16LayoutTest, RefusesWhatCannotBe) {
  constexpr int64_t kTooLarge = int64_t{1} << 31;
  for (const auto& shape : std::vector<std::vector<int64_t>>{
           {0, 1}, {1, 0}, {-1, 1}, {1, -1}, {kTooLarge, 1}, {1, kTooLarge}}) {
    const auto layout = PackedBF16Layout::Create(shape[0], shape[1]);
    EXPECT_EQ(layout.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(layout.status().message(), HasSubstr("found ["));
  }
  EXPECT_FALSE(PackedBF16Layout::Create(kTooLarge - 1, kTooLarge - 1).ok());
  EXPECT_TRUE(PackedBF16Layout::Create(1, kTooLarge - 1).ok());
  EXPECT_TRUE(PackedBF16Layout::Create(kTooLarge - 1, 1).ok());
}

TEST(BF16ActivationLayoutTest, TilesCoverAllTokensEvenly) {
  for (int64_t tokens = 1; tokens <= 100; ++tokens) {
    const BF16ActivationLayout layout(tokens, 7);
    EXPECT_EQ(layout.TileBegin(0), 0);
    EXPECT_EQ(layout.TileBegin(layout.tiles()), tokens);
    const int64_t smallest = layout.TileTokens(layout.tiles() - 1);
    for (int64_t i = 0; i < layout.tiles(); ++i) {
      EXPECT_GE(layout.TileTokens(i), smallest);
      EXPECT_LE(layout.TileTokens(i), smallest + 1);
      EXPECT_LE(layout.TileTokens(i), BF16ActivationLayout::kMaxTileTokens);
      EXPECT_EQ(layout.TileOffset(i), layout.TileBegin(i) * 4 * 4);
    }
    EXPECT_EQ(layout.total_bytes(), tokens * 4 * 4);
  }
}

}  // namespace
}  // namespace qeff
