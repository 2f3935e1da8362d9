// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/ggml_repack.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/format/packing.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/io/quantized_layer_testutil.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kRows = 3;

// A matrix of random codes; every scale is 2^-5 times 1 + its group's number
// over 64, with the sign of its parity: F16 and BF16.
QuantizedMatrix Integers(int bits, int64_t cols, int64_t group_elems) {
  QuantizedMatrix matrix;
  matrix.module = "m";
  matrix.rows = kRows;
  matrix.cols = cols;
  matrix.bits = bits;
  matrix.group_elems = group_elems;
  matrix.groups = (cols + group_elems - 1) / group_elems;
  matrix.row_bytes = 4 * PackedWords(bits, cols);
  auto packed = std::make_shared<std::vector<uint8_t>>(
      static_cast<size_t>(kRows * matrix.row_bytes));
  Random random(static_cast<uint64_t>(bits));
  for (size_t r = 0; r < kRows; ++r) {
    std::vector<uint8_t> codes(static_cast<size_t>(cols));
    for (uint8_t& code : codes) {
      code = static_cast<uint8_t>(random.NextBelow(uint64_t{1} << bits));
    }
    const size_t row_bytes = static_cast<size_t>(matrix.row_bytes);
    PackCodes(bits, codes,
              absl::MakeSpan(*packed).subspan(r * row_bytes, row_bytes));
  }
  auto scales = std::make_shared<std::vector<uint8_t>>(
      static_cast<size_t>(2 * kRows * matrix.groups));
  for (size_t g = 0; g < scales->size() / 2; ++g) {
    const float scale = 0x1p-5f * (1 + static_cast<float>(g) / 64);
    StoreScale(g % 2 == 0 ? scale : -scale, DType::kBF16,
               scales->data() + 2 * g);
  }
  matrix.codes.bits = bits;
  matrix.codes.cols = cols;
  matrix.codes.group_elems = group_elems;
  matrix.codes.scale_dtype = DType::kBF16;
  matrix.codes.packed = *packed;
  matrix.codes.scales = *scales;
  matrix.owned = {packed, scales};
  return matrix;
}

// Stores `scale` as that of group `group`.
void SetScale(float scale, DType dtype, size_t group, QuantizedMatrix* matrix) {
  const size_t groups = static_cast<size_t>(matrix->rows * matrix->groups);
  auto scales =
      std::make_shared<std::vector<uint8_t>>(groups * DTypeBytes(dtype));
  for (size_t g = 0; g < groups; ++g) {
    StoreScale(g == group ? scale : 1.0f, dtype,
               scales->data() + g * DTypeBytes(dtype));
  }
  matrix->codes.scale_dtype = dtype;
  matrix->codes.scales = *scales;
  matrix->owned.push_back(scales);
}

std::vector<uint8_t> Repack(const QuantizedMatrix& matrix, GgmlType type,
                            int64_t begin, int64_t count) {
  const GgmlTypeTraits& traits = *FindGgmlType(type);
  std::vector<uint8_t> blocks(static_cast<size_t>(count * matrix.cols) /
                              traits.block_elems * traits.block_bytes);
  RepackRows(matrix, type, begin, count, absl::MakeSpan(blocks));
  return blocks;
}

// That `matrix` fits `type`, and each value is that of the blocks.
void ExpectSameValues(const QuantizedMatrix& matrix, GgmlType type) {
  const auto found = FindRepackType(matrix);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(*found, type);
  const std::vector<float> expected = ValuesOf(matrix);
  const std::vector<uint8_t> all = Repack(matrix, type, 0, matrix.rows);
  std::vector<float> values(expected.size());
  DecodeGgmlRow(type, all, absl::MakeSpan(values));
  EXPECT_EQ(values, expected);
  const std::vector<uint8_t> last = Repack(matrix, type, matrix.rows - 1, 1);
  EXPECT_TRUE(std::equal(last.rbegin(), last.rend(), all.rbegin()));
}

TEST(GgmlRepackTest, Integers) {
  const GgmlType types[] = {GgmlType::kQ4_0, GgmlType::kQ4_0, GgmlType::kQ4_0,
                            GgmlType::kQ5_0, GgmlType::kQ8_0, GgmlType::kQ8_0,
                            GgmlType::kQ8_0};
  for (int bits = 2; bits <= 8; ++bits) {
    const GgmlType type = types[bits - 2];
    for (const int64_t group_elems : {32, 64, 192}) {
      SCOPED_TRACE(absl::StrCat(bits, " bits, groups of ", group_elems));
      ExpectSameValues(Integers(bits, 192, group_elems), type);
    }
    // One group a row of 96, and a shorter last one.
    ExpectSameValues(Integers(bits, 96, 96), type);
    ExpectSameValues(Integers(bits, 96, 64), type);
  }
}

// Elements 3 and 19 share a byte.
TEST(GgmlRepackTest, BytesOfQ4_0) {
  QuantizedMatrix matrix = Integers(4, 32, 32);
  auto packed = std::make_shared<std::vector<uint8_t>>(3 * 16, uint8_t{0x88});
  (*packed)[1] = 0x18;  // element 3
  (*packed)[9] = 0xF8;  // element 19
  matrix.codes.packed = *packed;
  const std::vector<uint8_t> blocks = Repack(matrix, GgmlType::kQ4_0, 0, 1);
  ASSERT_EQ(blocks.size(), 18u);
  EXPECT_EQ(blocks[1], 0x28);  // 2^-5
  EXPECT_EQ(blocks[2 + 2], 0x88);
  EXPECT_EQ(blocks[2 + 3], 0xF1);
}

TEST(GgmlRepackTest, SignedBytes) {
  QuantizedMatrix matrix = Integers(8, 64, 64);
  std::vector<uint8_t> bytes(matrix.codes.packed.begin(),
                             matrix.codes.packed.end());
  for (uint8_t& byte : bytes) byte ^= 0x80;
  matrix.signed_bytes = bytes;
  matrix.codes.packed = {};
  ExpectSameValues(matrix, GgmlType::kQ8_0);
}

QuantizedMatrix Read(const std::shared_ptr<const Checkpoint>& checkpoint,
                     const QuantizationConfig& config) {
  return *ReadQuantizedMatrix(*checkpoint, "m", config);
}

TEST(GgmlRepackTest, CodebooksAndBlocks) {
  const auto mxfp4 = OpenLayer(CodebookLayer("mxfp4", 64));
  ExpectSameValues(Read(mxfp4, CodebookConfig("mxfp4")), GgmlType::kMXFP4);
  const auto mxint8 = OpenLayer(CodebookLayer("mxint8", 64));
  ExpectSameValues(Read(mxint8, CodebookConfig("mxint8")), GgmlType::kQ8_0);
  const auto blocks = OpenLayer(Blocks(GgmlType::kQ6_K, 256));
  ExpectSameValues(Read(blocks, BlocksConfig(GgmlType::kQ6_K)),
                   GgmlType::kQ6_K);
}

void ExpectRefused(const QuantizedMatrix& matrix, const std::string& part) {
  const absl::Status status = FindRepackType(matrix).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << part;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("layer m: " + part));
}

TEST(GgmlRepackTest, RefusesWhatNoBlockHolds) {
  ExpectRefused(Integers(4, 48, 48), "rows of 48 are not whole blocks of 32");
  ExpectRefused(Integers(4, 96, 24), "groups of 24 are not whole blocks of 32");
  QuantizedMatrix matrix = Integers(4, 64, 32);
  const std::vector<uint8_t> zeros(6, 8);
  matrix.codes.zeros = zeros;
  ExpectRefused(matrix, "no block of ggml has zero points");
  matrix = Integers(8, 64, 64);
  matrix.inputs = InputCodes::kPerToken;
  ExpectRefused(matrix, "the layer's inputs become 8-bit codes");
  const auto nf4 = OpenLayer(CodebookLayer("nf4", 64));
  ExpectRefused(Read(nf4, CodebookConfig("nf4")),
                "no block of ggml has the values of nf4");
}

// A scale of 8 bits is an F16 from 2^-17 on, one of 11 from 2^-14 on.
TEST(GgmlRepackTest, ScalesMustBeF16) {
  QuantizedMatrix matrix = Integers(4, 64, 32);
  struct Case {
    float scale;
    DType dtype;
    bool fits;
  };
  const Case cases[] = {
      {0x1.FEp-17f, DType::kBF16, true},  {0x1.FEp-18f, DType::kBF16, false},
      {0x1p-24f, DType::kBF16, true},     {0x1p-25f, DType::kBF16, false},
      {-0x1.FEp15f, DType::kBF16, true},  {0x1p16f, DType::kBF16, false},
      {0x1.FFCp-14f, DType::kF32, true},  {0x1.FFEp-14f, DType::kF32, false},
      {0x1.FFCp-15f, DType::kF32, false}, {0x1p-14f, DType::kF16, true},
  };
  for (const Case& c : cases) {
    SetScale(c.scale, c.dtype, 3, &matrix);
    if (c.fits) {
      ExpectSameValues(matrix, GgmlType::kQ4_0);
    } else {
      ExpectRefused(matrix, "scale [1, 1]: the codes' factor ");
    }
  }
}

}  // namespace
}  // namespace qeff
