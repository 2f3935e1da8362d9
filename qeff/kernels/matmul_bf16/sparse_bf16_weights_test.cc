// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/sparse_bf16_weights.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

class SparseBF16WeightsTest : public ::testing::Test {
 protected:
  // Packed panels of any elements, of which a share is 0.
  static std::vector<uint8_t> Packed(const PackedBF16Layout& layout,
                                     double share) {
    std::vector<uint8_t> bytes(static_cast<size_t>(layout.total_bytes()));
    const Random random(1), kept(2);
    for (size_t i = 0; i < bytes.size() / 2; ++i) {
      const uint16_t element =
          static_cast<double>(kept.At(i) >> 11) * 0x1p-53 < share
              ? 0
              : static_cast<uint16_t>(random.At(i) | 1);
      std::memcpy(bytes.data() + 2 * i, &element, sizeof(element));
    }
    return bytes;
  }

  std::vector<uint8_t> Compressed(const PackedBF16Layout& sparse,
                                  absl::Span<const uint8_t> packed) {
    std::vector<uint8_t> bytes(static_cast<size_t>(sparse.total_bytes()), 1);
    CompressBF16Weights(sparse, packed, absl::MakeSpan(bytes), pool_.get());
    return bytes;
  }

  std::unique_ptr<ThreadPool> pool_ = *CreateThreadPool(2);
};

TEST_F(SparseBF16WeightsTest, RoundTrips) {
  for (int64_t rows : {1, 32, 70}) {
    for (int64_t cols : {1, 2, 33, 300}) {
      for (double share : {0.0, 0.5, 0.9, 1.0}) {
        const auto layout = *PackedBF16Layout::Create(rows, cols);
        const std::vector<uint8_t> packed = Packed(layout, share);
        const auto sparse = SparseLayoutOf(layout, packed, pool_.get());
        std::vector<uint8_t> back(packed.size(), 7);
        ExpandBF16Weights(sparse, Compressed(sparse, packed),
                          absl::MakeSpan(back));
        EXPECT_EQ(back, packed) << rows << " " << cols << " " << share;
      }
    }
  }
}

// 1 bit a weight and half of the values.
TEST_F(SparseBF16WeightsTest, BytesOfHalfOfTheWeights) {
  const auto layout = *PackedBF16Layout::Create(256, 2048);
  const auto sparse = SparseLayoutOf(layout, Packed(layout, 0.5), pool_.get());
  EXPECT_NEAR(static_cast<double>(sparse.total_bytes()) /
                  static_cast<double>(layout.total_bytes()),
              9.0 / 16, 0.002);
}

// The bytes of README.md.
TEST_F(SparseBF16WeightsTest, GoldenBytes) {
  const auto layout = *PackedBF16Layout::Create(40, 3);
  std::vector<uint8_t> packed(static_cast<size_t>(layout.total_bytes()));
  const auto set = [&](int64_t row, int64_t col, uint16_t element) {
    std::memcpy(packed.data() + layout.PairOffset(row, col / 2) + col % 2 * 2,
                &element, sizeof(element));
  };
  set(0, 1, 0x3F80);
  set(31, 1, 0x8000);  // -0 is kept
  set(2, 2, 0x4000);
  set(33, 0, 0xC000);
  const auto sparse = SparseLayoutOf(layout, packed, pool_.get());
  const std::vector<uint8_t> bytes = Compressed(sparse, packed);
  const auto word = [&](int64_t at) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + at, sizeof(word));
    return word;
  };
  ASSERT_EQ(bytes.size(), 64 + 2 * 64 + 192u);
  EXPECT_EQ(word(0), 0u);
  EXPECT_EQ(word(8), 6u);
  EXPECT_EQ(word(64), uint64_t{1} << 63 | uint64_t{2});
  EXPECT_EQ(word(72), uint64_t{1} << 4);
  EXPECT_EQ(word(128), uint64_t{1} << 2);
  EXPECT_EQ(word(136), 0u);
  EXPECT_EQ(word(192), 0xC000'4000'8000'3F80u);
  EXPECT_EQ(word(200), 0u);
}

TEST_F(SparseBF16WeightsTest, BytesThatNobodyWroteStayInside) {
  const auto layout = *(*PackedBF16Layout::Create(70, 40)).Sparse(512);
  std::vector<uint8_t> packed(
      static_cast<size_t>(layout.Dense().total_bytes()));
  const Random random(4);
  std::vector<uint8_t> bytes(static_cast<size_t>(layout.total_bytes()), 0xFF);
  for (int run = 0; run < 20; ++run) {
    ExpandBF16Weights(layout, bytes, absl::MakeSpan(packed));
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<uint8_t>(
          random.At(i + static_cast<size_t>(run) * bytes.size()));
    }
  }
}

}  // namespace
}  // namespace qeff
