// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/packing.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"

namespace qeff {
namespace {

std::vector<int32_t> Words(const std::vector<uint8_t>& bytes) {
  std::vector<int32_t> words(bytes.size() / 4);
  if (!words.empty()) {
    std::memcpy(words.data(), bytes.data(), 4 * words.size());
  }
  return words;
}

std::vector<uint8_t> Bytes(const std::vector<int32_t>& words) {
  std::vector<uint8_t> bytes(4 * words.size());
  if (!words.empty()) {
    std::memcpy(bytes.data(), words.data(), bytes.size());
  }
  return bytes;
}

std::vector<int32_t> Pack(int bits, const std::vector<uint8_t>& codes) {
  std::vector<uint8_t> packed(
      4 * PackedWords(bits, static_cast<int64_t>(codes.size())), 0xAA);
  PackCodes(bits, codes, absl::MakeSpan(packed));
  return Words(packed);
}

// Golden words of compressed-tensors; its codes are signed, stored plus
// 2^(bits-1).
TEST(Packing, GoldenInt8) {
  EXPECT_EQ(Pack(8, {1 + 128, 2 + 128}), std::vector<int32_t>({33409}));
}

TEST(Packing, GoldenInt4) {
  std::vector<uint8_t> codes;
  for (int i = 0; i < 16; ++i) codes.push_back(static_cast<uint8_t>(i));
  EXPECT_EQ(Pack(4, codes), std::vector<int32_t>({1985229328, -19088744}));
}

std::vector<uint8_t> FiveTimes() {
  std::vector<uint8_t> codes;
  for (int i = 0; i < 32; ++i) codes.push_back(static_cast<uint8_t>(5 * i % 8));
  return codes;
}

TEST(Packing, GoldenInt3Dense) {
  EXPECT_EQ(Pack(3, FiveTimes()),
            std::vector<int32_t>({-1468477784, -827819826, 2026809464}));
}

TEST(Packing, GoldenInt3Spaced) {
  std::vector<uint8_t> codes(32);
  UnpackSpacedCodes(3, Bytes({679005864, 983687994, 216696716, 30}),
                    absl::MakeSpan(codes));
  EXPECT_EQ(codes, FiveTimes());
}

TEST(Packing, GoldenZeroPoints) {
  // Zero points (o - 5, 5 - o) of 10 rows and 2 groups, plus 8.
  std::vector<uint8_t> codes;
  for (int o = 0; o < 10; ++o) {
    codes.push_back(static_cast<uint8_t>(o - 5 + 8));
    codes.push_back(static_cast<uint8_t>(5 - o + 8));
  }
  std::vector<uint8_t> packed(4 * 2 * 2);
  PackColumns(4, 10, 2, codes, absl::MakeSpan(packed));
  EXPECT_EQ(Words(packed),
            std::vector<int32_t>({-1450744509, 1737075661, 203, 69}));
  std::vector<uint8_t> unpacked(20);
  UnpackColumns(4, /*spaced=*/false, 10, 2, packed, absl::MakeSpan(unpacked));
  EXPECT_EQ(unpacked, codes);
}

TEST(Packing, RoundTripsEveryWidthAndLength) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (size_t count = 0; count <= 70; ++count) {
      std::vector<uint8_t> codes(count);
      for (size_t i = 0; i < count; ++i) {
        codes[i] = static_cast<uint8_t>((i * 37 + 11) & ((1u << bits) - 1));
      }
      const std::vector<uint8_t> packed = Bytes(Pack(bits, codes));
      std::vector<uint8_t> unpacked(count);
      UnpackCodes(bits, packed, absl::MakeSpan(unpacked));
      EXPECT_EQ(unpacked, codes) << bits << " bits, " << count;
    }
  }
}

TEST(Packing, PaddingIsZero) {
  EXPECT_EQ(Pack(4, {15}), std::vector<int32_t>({15}));
  EXPECT_EQ(Pack(3, std::vector<uint8_t>(11, 7)),
            std::vector<int32_t>({-1, 1}));
}

TEST(Packing, SpacedEqualsDenseForPowersOfTwo) {
  for (int bits : {2, 4, 8}) {
    for (int64_t count = 0; count < 70; ++count) {
      EXPECT_EQ(PackedWords(bits, count), SpacedWords(bits, count));
    }
  }
  EXPECT_EQ(SpacedWords(3, 32), 4);
  EXPECT_EQ(SpacedWords(5, 12), 2);
  EXPECT_EQ(SpacedWords(7, 9), 3);
}

}  // namespace
}  // namespace qeff
