// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/pack_bf16_weights.h"

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

std::vector<uint8_t> RandomBytes(int64_t size, uint64_t seed) {
  const Random random(seed);
  std::vector<uint8_t> bytes(static_cast<size_t>(size));
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(random.At(i));
  }
  return bytes;
}

// Two rows of three columns, 0x0101 to 0x0103 and 0x0201 to 0x0203.
TEST(PackBF16WeightsTest, GoldenBytes) {
  const auto layout = PackedBF16Layout::Create(2, 3);
  ASSERT_TRUE(layout.ok());
  const std::vector<uint8_t> weights = {1, 1, 2, 1, 3, 1, 1, 2, 2, 2, 3, 2};
  std::vector<uint8_t> packed(static_cast<size_t>(layout->total_bytes()), 0xEE);
  PackBF16Weights(*layout, weights, 0, 1, absl::MakeSpan(packed));
  std::vector<uint8_t> expected(256, 0);
  const std::vector<uint8_t> first_pair = {1, 1, 2, 1, 1, 2, 2, 2};
  const std::vector<uint8_t> last_pair = {3, 1, 0, 0, 3, 2, 0, 0};
  std::copy(first_pair.begin(), first_pair.end(), expected.begin());
  std::copy(last_pair.begin(), last_pair.end(), expected.begin() + 128);
  EXPECT_EQ(packed, expected);
}

TEST(PackBF16WeightsTest, RoundTripFromAnyAddress) {
  for (int64_t rows : {1, 2, 31, 32, 33, 64, 70}) {
    for (int64_t cols : {1, 2, 3, 16, 33}) {
      const auto layout = PackedBF16Layout::Create(rows, cols);
      ASSERT_TRUE(layout.ok());
      const auto bytes = RandomBytes(1 + 2 * rows * cols, 1);
      const auto weights = absl::MakeConstSpan(bytes).subspan(1);
      std::vector<uint8_t> packed(static_cast<size_t>(layout->total_bytes()));
      PackBF16Weights(*layout, weights, 0, layout->panels(),
                      absl::MakeSpan(packed));
      std::vector<uint8_t> back(weights.size());
      UnpackBF16Weights(*layout, packed, absl::MakeSpan(back));
      EXPECT_EQ(absl::MakeConstSpan(back), weights) << rows << " " << cols;
    }
  }
}

TEST(PackBF16WeightsTest, PanelsOneByOneAreTheWhole) {
  const auto layout = PackedBF16Layout::Create(100, 9);
  ASSERT_TRUE(layout.ok());
  const auto weights = RandomBytes(2 * 100 * 9, 2);
  std::vector<uint8_t> whole(static_cast<size_t>(layout->total_bytes()));
  PackBF16Weights(*layout, weights, 0, layout->panels(), absl::MakeSpan(whole));
  std::vector<uint8_t> parts(whole.size(), 0xEE);
  const size_t panel_bytes = static_cast<size_t>(layout->panel_bytes());
  for (int64_t p = 0; p < layout->panels(); ++p) {
    PackBF16Weights(*layout, weights, p, 1,
                    absl::MakeSpan(parts).subspan(
                        static_cast<size_t>(p) * panel_bytes, panel_bytes));
  }
  EXPECT_EQ(parts, whole);
}

}  // namespace
}  // namespace qeff
