// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/ggml_block_params.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr GgmlType kTypes[] = {
    GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_1,
    GgmlType::kQ5_0, GgmlType::kQ5_1, GgmlType::kQ4_K,
    GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kMXFP4};

// A block with its parameters.
struct Block {
  explicit Block(GgmlType block_type)
      : type(block_type),
        codes(
            static_cast<size_t>(FindGgmlBlockFormat(block_type)->block_elems)) {
  }

  std::vector<uint8_t> Pack() const {
    std::vector<uint8_t> bytes(
        static_cast<size_t>(FindGgmlBlockFormat(type)->block_bytes));
    PackGgmlBlock(type, params, codes, absl::MakeSpan(bytes));
    return bytes;
  }
  void Unpack(const std::vector<uint8_t>& bytes) {
    UnpackGgmlBlock(type, bytes, &params, absl::MakeSpan(codes));
  }

  GgmlType type;
  GgmlBlockParams params;
  std::vector<int8_t> codes;
};

TEST(GgmlBlockParamsTest, FormatsAgreeWithTheTypes) {
  for (const GgmlType type : kTypes) {
    const GgmlBlockFormat* format = FindGgmlBlockFormat(type);
    ASSERT_NE(format, nullptr);
    const GgmlTypeTraits& traits = *FindGgmlType(type);
    EXPECT_EQ(format->block_elems, static_cast<int>(traits.block_elems));
    EXPECT_EQ(format->block_bytes, traits.block_bytes);
    EXPECT_LE(format->block_elems, kMaxGgmlBlockElems);
    EXPECT_LE(format->num_sub_blocks(), kMaxGgmlSubBlocks);
  }
  for (const GgmlType type :
       {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16,
        static_cast<GgmlType>(10), static_cast<GgmlType>(1000)}) {
    EXPECT_EQ(FindGgmlBlockFormat(type), nullptr);
  }
}

// Every block is one of parameters and codes in their ranges, and packing
// those gives it back: nothing is lost and nothing overlaps.
TEST(GgmlBlockParamsTest, AnyBytesComeBack) {
  const Random random(1, 0);
  uint64_t at = 0;
  for (const GgmlType type : kTypes) {
    const GgmlBlockFormat& format = *FindGgmlBlockFormat(type);
    Block block(type);
    for (int trial = 0; trial < 1000; ++trial) {
      std::vector<uint8_t> bytes(static_cast<size_t>(format.block_bytes));
      for (uint8_t& byte : bytes) {
        byte = static_cast<uint8_t>(random.At(at++) >> 32);
      }
      block.Unpack(bytes);
      if (std::isnan(block.params.d) || std::isnan(block.params.dmin)) continue;
      for (const int8_t code : block.codes) {
        ASSERT_GE(code, format.min_code);
        ASSERT_LE(code, format.max_code);
      }
      if (type == GgmlType::kMXFP4) {  // -0 is read as 0
        for (size_t i = 1; i < bytes.size(); ++i) {
          if (bytes[i] >> 4 == 8) bytes[i] &= 0x0F;
          if ((bytes[i] & 15) == 8) bytes[i] &= 0xF0;
        }
      }
      ASSERT_EQ(block.Pack(), bytes) << FindGgmlType(type)->name;
    }
  }
}

// Where the layout table of ggml puts single elements.
TEST(GgmlBlockParamsTest, PlacesOfElements) {
  Block q4(GgmlType::kQ4_K);
  q4.params.d = 1;
  q4.params.dmin = 2;
  q4.params.scale_codes[1] = 63;
  q4.params.scale_codes[5] = 0x2B;  // upper bits 2, lower 11
  q4.params.min_codes[6] = 0x1D;    // upper bits 1, lower 13
  q4.codes[70] = 5;                 // chunk 1, element 6, low half
  q4.codes[255] = 12;               // chunk 3, element 31, high half
  const std::vector<uint8_t> q4_bytes = q4.Pack();
  EXPECT_EQ(q4_bytes[1], 0x3C);
  EXPECT_EQ(q4_bytes[3], 0x40);
  EXPECT_EQ(q4_bytes[4 + 1], 63 | 2 << 6);
  EXPECT_EQ(q4_bytes[4 + 6], 1 << 6);
  EXPECT_EQ(q4_bytes[4 + 9], 11);
  EXPECT_EQ(q4_bytes[4 + 10], 13 << 4);
  EXPECT_EQ(q4_bytes[16 + 32 + 6], 5);
  EXPECT_EQ(q4_bytes[16 + 127], 12 << 4);

  Block q5(GgmlType::kQ5_K);
  q5.codes[100] = 0x19;  // sub-block 3, element 4
  const std::vector<uint8_t> q5_bytes = q5.Pack();
  EXPECT_EQ(q5_bytes[16 + 4], 1 << 3);
  EXPECT_EQ(q5_bytes[48 + 32 + 4], 9 << 4);

  Block q6(GgmlType::kQ6_K);
  q6.params.d = -1;
  q6.params.scale_codes[15] = -128;
  std::fill(q6.codes.begin(), q6.codes.end(), int8_t{-32});
  q6.codes[128 + 64 + 9] = 0x1B;  // stored 0x3B: half 1, third quarter
  const std::vector<uint8_t> q6_bytes = q6.Pack();
  EXPECT_EQ(q6_bytes[64 + 9], 0xB0);
  EXPECT_EQ(q6_bytes[128 + 32 + 9], 3 << 4);
  EXPECT_EQ(q6_bytes[192 + 15], 0x80);
  EXPECT_EQ(q6_bytes[209], 0xBC);
}

TEST(GgmlBlockParamsTest, RoundsToTheNearestValue) {
  for (const GgmlType type : kTypes) {
    if (type == GgmlType::kMXFP4) continue;  // its steps differ
    const GgmlBlockFormat& format = *FindGgmlBlockFormat(type);
    Block block(type);
    block.params.d = 0.25f;
    block.params.scale_codes[0] = format.num_sub_blocks() == 1 ? 1 : 2;
    block.params.dmin = format.has_offsets() ? 0.5f : 0.0f;
    block.params.min_codes[0] = format.has_scale_codes() ? 3 : 1;
    const float scale = block.params.scale(0);
    const float offset = block.params.offset(0);
    std::vector<float> x(block.codes.size());
    x[0] = scale * 3 - offset;
    x[1] = scale * 4.5f - offset;  // ties go to even
    x[2] = scale * 5.5f - offset;
    x[3] = 1e30f;
    x[4] = -1e30f;
    x[5] = scale * 2.499f - offset;
    RoundToGgmlCodes(type, block.params, x, absl::MakeSpan(block.codes));
    EXPECT_EQ(block.codes[0], 3);
    EXPECT_EQ(block.codes[1], 4);
    EXPECT_EQ(block.codes[2], 6);
    EXPECT_EQ(block.codes[3], format.max_code);
    EXPECT_EQ(block.codes[4], format.min_code);
    EXPECT_EQ(block.codes[5], 2);
  }
}

TEST(GgmlBlockParamsTest, CodesStayWhereTheScaleIsZero) {
  Block block(GgmlType::kQ4_K);
  block.params.d = 1;
  block.params.scale_codes[0] = 1;
  std::fill(block.codes.begin(), block.codes.end(), int8_t{7});
  const std::vector<float> x(256, 2.0f);
  RoundToGgmlCodes(block.type, block.params, x, absl::MakeSpan(block.codes));
  EXPECT_EQ(block.codes[31], 2);
  EXPECT_EQ(block.codes[32], 7);
}

}  // namespace
}  // namespace qeff
