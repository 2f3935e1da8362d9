// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/sparse_24.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

template <class T>
absl::Span<const uint8_t> BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()),
          values.size() * sizeof(T)};
}

struct Compressed {
  absl::optional<int64_t> bad;
  std::vector<uint8_t> kept;
  std::vector<uint8_t> mask;
};

Compressed Compress(int64_t elem_bytes, absl::Span<const uint8_t> row) {
  Compressed result;
  result.kept.resize(row.size() / 2);
  result.mask.resize(static_cast<size_t>(
      Sparse24MaskBytes(static_cast<int64_t>(row.size()) / elem_bytes)));
  result.bad = CompressSparse24(elem_bytes, row, absl::MakeSpan(result.kept),
                                absl::MakeSpan(result.mask));
  return result;
}

TEST(Sparse24, Golden) {
  const std::vector<float> row = {0, -.9f, .5f, 0, 3, 0, 0, -4};
  const Compressed compressed = Compress(4, BytesOf(row));
  EXPECT_FALSE(compressed.bad.has_value());
  EXPECT_EQ(compressed.mask, std::vector<uint8_t>({0x96}));
  const std::vector<float> kept = {-.9f, .5f, 3, -4};
  EXPECT_EQ(absl::MakeConstSpan(compressed.kept), BytesOf(kept));
}

TEST(Sparse24, RandomRowsComeBack) {
  Random random(1);
  for (const int64_t cols : {4, 8, 12, 64, 100}) {
    std::vector<uint16_t> row(static_cast<size_t>(cols));
    for (size_t c = 0; c < row.size(); c += 4) {
      // Up to two of each four, also none.
      for (int i = 0; i < 2; ++i) {
        row[c + random.NextBelow(4)] =
            static_cast<uint16_t>(random.NextBelow(0x7F00));
      }
    }
    const Compressed compressed = Compress(2, BytesOf(row));
    ASSERT_FALSE(compressed.bad.has_value());
    std::vector<uint8_t> again(row.size() * 2, 7);
    EXPECT_FALSE(ExpandSparse24(2, compressed.kept, compressed.mask,
                                absl::MakeSpan(again))
                     .has_value());
    EXPECT_EQ(absl::MakeConstSpan(again), BytesOf(row));
  }
}

TEST(Sparse24, NegativeZerosAreZeros) {
  const std::vector<float> row = {-0.0f, 1, -0.0f, 2, -0.0f, -0.0f, -0.0f, 5};
  const Compressed compressed = Compress(4, BytesOf(row));
  EXPECT_FALSE(compressed.bad.has_value());
  EXPECT_EQ(compressed.mask, std::vector<uint8_t>({0x9A}));
  const std::vector<float> kept = {1, 2, 0, 5};
  EXPECT_EQ(absl::MakeConstSpan(compressed.kept), BytesOf(kept));
  // The smallest numbers are none.
  const std::vector<float> small = {0x1p-149f, 1, 0, -0x1p-149f};
  EXPECT_EQ(Compress(4, BytesOf(small)).bad, absl::optional<int64_t>(0));
}

TEST(Sparse24, NamesTheGroupThatIsNot) {
  const std::vector<float> row = {0, 1, 0, 2, 1, 2, 0, 5};
  EXPECT_EQ(Compress(4, BytesOf(row)).bad, absl::optional<int64_t>(4));
  std::vector<uint8_t> kept(16), out(32);
  const auto expand = [&](uint8_t mask) {
    return ExpandSparse24(4, kept, {&mask, 1}, absl::MakeSpan(out));
  };
  EXPECT_FALSE(expand(0x96).has_value());
  EXPECT_EQ(expand(0x97), absl::optional<int64_t>(0));
  EXPECT_EQ(expand(0x16), absl::optional<int64_t>(4));
  kept.resize(8);
  out.resize(16);
  EXPECT_FALSE(expand(0x06).has_value());
  EXPECT_EQ(expand(0x16), absl::optional<int64_t>(4));
}

}  // namespace
}  // namespace qeff
