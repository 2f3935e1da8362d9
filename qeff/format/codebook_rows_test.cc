// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/codebook_rows.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr const char* kNames[] = {"nf4",   "nf4_g24", "fp8_e4m3",
                                  "mxfp4", "mxfp6",   "mxint8"};

QuantScheme Scheme(const std::string& name) {
  return ParseQuantScheme(name).value();
}

// OCP MX 1.0, section 6.3: the exponent of the largest magnitude less that of
// the largest value.
TEST(CodebookRows, ScalesOfTheDefinition) {
  const auto scale = [](const char* name, float absmax,
                        DType dtype = DType::kU8) {
    return CodebookScale(Scheme(name), absmax, dtype);
  };
  EXPECT_EQ(scale("mxfp4", 6.0f), 1.0f);
  EXPECT_EQ(scale("mxfp4", 7.9f), 1.0f);
  EXPECT_EQ(scale("mxfp4", 8.0f), 2.0f);
  EXPECT_EQ(scale("mxfp6", 3.9f), 0.5f);
  EXPECT_EQ(scale("mxint8", 1.0f), 1.0f);
  EXPECT_EQ(scale("mxint8", 0.99f), 0.5f);
  EXPECT_EQ(scale("mxfp4", 0.0f), 1.0f);
  EXPECT_EQ(scale("mxfp4", 0x1p-140f), 0x1p-127f);
  EXPECT_EQ(scale("mxint8", 0x1.FFFFFEp127f), 0x1p127f);
  EXPECT_EQ(scale("nf4", 0.75f, DType::kBF16), 0.75f);
  EXPECT_EQ(scale("fp8_e4m3", 896.0f, DType::kF16), 2.0f);
  // Near the ends of the types.
  EXPECT_EQ(scale("nf4", 0x1.FFFFFEp127f, DType::kBF16), 0x1.FEp127f);
  EXPECT_EQ(scale("nf4", 0.0f, DType::kBF16), 1.0f);
  EXPECT_EQ(scale("nf4", 1e-40f, DType::kBF16), 1.0f);
  EXPECT_EQ(scale("fp8_e4m3", 1e-6f, DType::kF16), 1.0f);
}

TEST(CodebookRows, StoresScales) {
  uint8_t bytes[3];
  StoreCodebookScale(0.25f, DType::kU8, bytes);
  EXPECT_EQ(bytes[0], 125);
  EXPECT_EQ(LoadCodebookScale(DType::kU8, bytes), 0.25f);
  StoreCodebookScale(-0.75f, DType::kBF16, bytes + 1);
  EXPECT_EQ(LoadCodebookScale(DType::kBF16, bytes + 1), -0.75f);
}

// All codes of all widths come back, and mean table[code] * scale.
TEST(CodebookRows, PacksAndDecodes) {
  const Random random(1);
  for (const char* name : kNames) {
    for (const int64_t cols : {2, 8, 30, 172, 256, 520}) {
      SCOPED_TRACE(std::string(name) + " " + std::to_string(cols));
      const QuantScheme scheme = Scheme(name);
      const CodebookFormat& format = FormatOf(*scheme.codebook);
      const QuantizedShape shape(scheme, 2, cols);
      const DType dtype = ScaleDType(scheme, DType::kBF16);
      const size_t row_bytes = static_cast<size_t>(shape.row_bytes);
      const size_t groups = static_cast<size_t>(shape.groups);
      std::vector<uint8_t> codes(static_cast<size_t>(cols));
      std::vector<uint8_t> packed(2 * row_bytes, 0xAA);
      std::vector<uint8_t> scales(2 * groups * DTypeBytes(dtype));
      for (size_t i = 0; i < codes.size(); ++i) {
        codes[i] = static_cast<uint8_t>(random.At(i) % (1u << format.bits));
      }
      for (size_t g = 0; g < 2 * groups; ++g) {
        StoreCodebookScale(g % 2 == 0 ? 0.5f : 4.0f, dtype,
                           scales.data() + g * DTypeBytes(dtype));
      }
      PackCodebookRow(format.bits, codes,
                      absl::MakeSpan(packed).subspan(row_bytes));
      CodebookRowsView rows;
      rows.codebook = format.codebook;
      rows.cols = cols;
      rows.group_elems = shape.group_elems;
      rows.row_bytes = shape.row_bytes;
      rows.scale_dtype = dtype;
      rows.packed = packed;
      rows.scales = scales;
      std::vector<uint8_t> unpacked(codes.size());
      UnpackCodebookRow(rows, 1, absl::MakeSpan(unpacked));
      EXPECT_EQ(unpacked, codes);
      std::vector<float> values(codes.size());
      DecodeCodebookRow(rows, 1, absl::MakeSpan(values));
      for (size_t i = 0; i < codes.size(); ++i) {
        const size_t group =
            groups + i / static_cast<size_t>(shape.group_elems);
        const float expected =
            format.values[codes[i]] * (group % 2 == 0 ? 0.5f : 4.0f);
        if (std::isnan(expected)) {
          EXPECT_TRUE(std::isnan(values[i]));
        } else {
          EXPECT_EQ(values[i], expected);
        }
      }
    }
  }
}

// The first bytes of rows, as other readers would see them.
TEST(CodebookRows, GoldenBytes) {
  const auto packed = [](int bits, const std::vector<uint8_t>& codes,
                         size_t bytes) {
    std::vector<uint8_t> row(bytes);
    PackCodebookRow(bits, codes, absl::MakeSpan(row));
    return row;
  };
  // mxfp4 of 1, -0.5, 6, -6: the first in the low half of a byte.
  EXPECT_EQ(packed(4, {0x2, 0x9, 0x7, 0xF}, 2),
            (std::vector<uint8_t>{0x92, 0xF7}));
  // mxfp6 of 0.125, 7.5, -1, -7.5, 0: codes 0x01, 0x1F, 0x28, 0x3F, 0x00.
  EXPECT_EQ(packed(6, {0x01, 0x1F, 0x28, 0x3F, 0x00}, 4),
            (std::vector<uint8_t>{0xC1, 0x87, 0xFE, 0x00}));
  // fp8_e4m3 of 1, -448, 2^-9.
  EXPECT_EQ(packed(8, {0x38, 0xFE, 0x01}, 3),
            (std::vector<uint8_t>{0x38, 0xFE, 0x01}));
}

}  // namespace
}  // namespace qeff
