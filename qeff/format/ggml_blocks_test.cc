// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/ggml_blocks.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<uint8_t> Encode(GgmlType type, const std::vector<float>& row) {
  const GgmlTypeTraits* traits = FindGgmlType(type);
  std::vector<uint8_t> blocks(row.size() / traits->block_elems *
                              traits->block_bytes);
  if (type == GgmlType::kQ8_0) {
    EncodeQ8_0(row, absl::MakeSpan(blocks));
  } else {
    EncodeQ4_0(row, absl::MakeSpan(blocks));
  }
  return blocks;
}

std::vector<float> Decode(GgmlType type, const std::vector<uint8_t>& blocks) {
  const GgmlTypeTraits* traits = FindGgmlType(type);
  std::vector<float> row(blocks.size() / traits->block_bytes *
                         traits->block_elems);
  if (type == GgmlType::kQ8_0) {
    DecodeQ8_0(blocks, absl::MakeSpan(row));
  } else {
    DecodeQ4_0(blocks, absl::MakeSpan(row));
  }
  return row;
}

std::string Hex(const std::vector<uint8_t>& bytes) {
  return absl::BytesToHexString(absl::string_view(
      reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// 32 values that are exact in float32.
std::vector<float> GoldenRow() {
  std::vector<float> row;
  for (int i = 0; i < 32; ++i) {
    row.push_back(static_cast<float>((37 * i) % 101 - 50) / 64);
  }
  return row;
}

TEST(GgmlBlocksTest, GoldenBytes) {
  EXPECT_EQ(Hex(Encode(GgmlType::kQ8_0, GoldenRow())),
            "4d1e81df3d9af856b41270cd2b89e745a2005ebb1977d53390ee4caa0866c3217f"
            "dc");
  EXPECT_EQ(Hex(Encode(GgmlType::kQ4_0, GoldenRow())),
            "402ee046acf258bd1379df358be046acf268");
}

TEST(GgmlBlocksTest, DecodesWhatTheHeaderSays) {
  std::vector<uint8_t> q8(34, 0);
  q8[1] = 0x3C;  // d = 1
  q8[2] = 0x80;
  q8[33] = 127;
  const std::vector<float> from_q8 = Decode(GgmlType::kQ8_0, q8);
  EXPECT_EQ(from_q8[0], -128.0f);
  EXPECT_EQ(from_q8[1], 0.0f);
  EXPECT_EQ(from_q8[31], 127.0f);

  std::vector<uint8_t> q4(18, 0x88);
  q4[0] = 0;
  q4[1] = 0x40;  // d = 2
  q4[2] = 0xF0;
  const std::vector<float> from_q4 = Decode(GgmlType::kQ4_0, q4);
  EXPECT_EQ(from_q4[0], -16.0f);
  EXPECT_EQ(from_q4[1], 0.0f);
  EXPECT_EQ(from_q4[16], 14.0f);
  EXPECT_EQ(from_q4[31], 0.0f);
}

TEST(GgmlBlocksTest, RoundsHalvesAwayFromZero) {
  std::vector<float> row(32, 0.0f);
  row[0] = 127.0f;  // d = 1
  row[1] = 0.5f;
  row[2] = -0.5f;
  row[3] = 2.5f;
  row[4] = std::nextafter(0.5f, 0.0f);
  row[5] = -126.5f;
  const std::vector<uint8_t> blocks = Encode(GgmlType::kQ8_0, row);
  EXPECT_EQ(blocks[3], 1);
  EXPECT_EQ(blocks[4], 0xFF);
  EXPECT_EQ(blocks[5], 3);
  EXPECT_EQ(blocks[6], 0);
  EXPECT_EQ(static_cast<int8_t>(blocks[7]), -127);
}

TEST(GgmlBlocksTest, TheFirstOfEqualMagnitudesGivesTheSign) {
  std::vector<float> row(32, 0.0f);
  row[3] = -8.0f;
  row[7] = 8.0f;
  std::vector<uint8_t> blocks = Encode(GgmlType::kQ4_0, row);
  EXPECT_EQ(blocks[1], 0x3C);  // d = 1: -8 is code 0, 8 is clamped to 15
  EXPECT_EQ(blocks[2 + 3] & 15, 0);
  EXPECT_EQ(blocks[2 + 7] & 15, 15);
  row[3] = 8.0f;
  row[7] = -8.0f;
  blocks = Encode(GgmlType::kQ4_0, row);
  EXPECT_EQ(blocks[1], 0xBC);  // d = -1
  EXPECT_EQ(blocks[2 + 3] & 15, 0);
  EXPECT_EQ(blocks[2 + 7] & 15, 15);
}

TEST(GgmlBlocksTest, ZerosAndTinyValuesAreZero) {
  for (const float value : {0.0f, -0.0f, 1e-45f, -3e-44f, 1e-38f, 1e-10f}) {
    const std::vector<float> row(64, value);
    for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0}) {
      for (const float decoded : Decode(type, Encode(type, row))) {
        EXPECT_EQ(decoded, 0.0f) << value;
      }
    }
  }
}

// Relative root-mean-square error of normal weights.
TEST(GgmlBlocksTest, ErrorOfNormalWeights) {
  const Random random(1, 0);
  std::vector<float> row(1 << 16);
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = static_cast<float>(random.NormalAt(i));
  }
  const auto error = [&](GgmlType type) {
    const std::vector<float> decoded = Decode(type, Encode(type, row));
    double difference = 0;
    double norm = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      difference += (row[i] - decoded[i]) * (row[i] - decoded[i]);
      norm += row[i] * row[i];
    }
    return std::sqrt(difference / norm);
  };
  EXPECT_NEAR(error(GgmlType::kQ8_0), 0.0050, 0.0005);
  EXPECT_NEAR(error(GgmlType::kQ4_0), 0.0817, 0.0005);
}

TEST(GgmlBlocksTest, FindsWhatDoesNotFit) {
  struct Case {
    GgmlType type;
    float largest;  // that fits
  };
  const Case cases[] = {
      {GgmlType::kF32, std::numeric_limits<float>::max()},
      {GgmlType::kF16, std::nextafter(65520.0f, 0.0f)},
      {GgmlType::kQ8_0, std::nextafter(127 * 65520.0f, 0.0f)},
      {GgmlType::kQ4_0, std::nextafter(8 * 65520.0f, 0.0f)},
      {GgmlType::kQ4_1, std::nextafter(65520.0f, 0.0f)},
      {GgmlType::kQ5_0, std::nextafter(16 * 65520.0f, 0.0f)},
      {GgmlType::kQ5_1, std::nextafter(65520.0f, 0.0f)},
      {GgmlType::kMXFP4, std::numeric_limits<float>::max()},
  };
  for (const Case& c : cases) {
    std::vector<float> row(32, 1.0f);
    row[30] = -c.largest;
    EXPECT_EQ(FirstUnfitForGgml(c.type, row), 32);
    if (c.type == GgmlType::kQ8_0 || c.type == GgmlType::kQ4_0) {
      for (const float value : Decode(c.type, Encode(c.type, row))) {
        EXPECT_TRUE(std::isfinite(value));
      }
    }
    for (const float bad : {std::nextafter(c.largest, kInfinity), -kInfinity,
                            std::numeric_limits<float>::quiet_NaN()}) {
      row[17] = bad;
      EXPECT_EQ(FirstUnfitForGgml(c.type, row), 17) << bad;
    }
  }
}

TEST(GgmlBlocksTest, KnowsTheTypesOfFiles) {
  EXPECT_EQ(FindGgmlType(GgmlType::kQ4_0)->name, "Q4_0");
  EXPECT_EQ(FindGgmlType(GgmlType::kQ4_0)->block_bytes, kQ4_0BlockBytes);
  EXPECT_EQ(FindGgmlType(GgmlType::kQ8_0)->block_bytes, kQ8_0BlockBytes);
  EXPECT_EQ(FindGgmlType(static_cast<GgmlType>(14))->name, "Q6_K");
  for (const uint32_t number : {4u, 5u, 31u, 38u, 1000u, 0xFFFFFFFFu}) {
    EXPECT_EQ(FindGgmlType(static_cast<GgmlType>(number)), nullptr) << number;
  }
}

}  // namespace
}  // namespace qeff
