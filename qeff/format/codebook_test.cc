// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/codebook.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/tensor/dtype.h"

namespace qeff {
namespace {

constexpr Codebook kAll[] = {Codebook::kNf4, Codebook::kF8E4M3,
                             Codebook::kMxfp4, Codebook::kMxfp6,
                             Codebook::kMxint8};

std::vector<float> Values(Codebook codebook, int begin, int count) {
  const float* values = FormatOf(codebook).values + begin;
  return std::vector<float>(values, values + count);
}

TEST(Codebook, NamesAndSizes) {
  for (const Codebook codebook : kAll) {
    const CodebookFormat& format = FormatOf(codebook);
    EXPECT_EQ(format.codebook, codebook);
    EXPECT_EQ(FindCodebook(format.name), &format);
  }
  EXPECT_EQ(FindCodebook("fp8"), nullptr);
  EXPECT_EQ(FormatOf(Codebook::kNf4).bits, 4);
  EXPECT_EQ(FormatOf(Codebook::kMxfp6).bits, 6);
}

// Table 1 of OCP MX 1.0, section 5.3.3, and its lists of values.
TEST(Codebook, MicroscalingValues) {
  EXPECT_EQ(Values(Codebook::kMxfp4, 0, 16),
            (std::vector<float>{0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0f, -0.5, -1,
                                -1.5, -2, -3, -4, -6}));
  EXPECT_EQ(Values(Codebook::kMxfp6, 0, 32),
            (std::vector<float>{0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875,
                                1, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875,
                                2, 2.25,  2.5,  2.75,  3,   3.25,  3.5,  3.75,
                                4, 4.5,   5,    5.5,   6,   6.5,   7,    7.5}));
  EXPECT_EQ(FormatOf(Codebook::kMxfp6).values[63], -7.5f);
  EXPECT_TRUE(std::isnan(FormatOf(Codebook::kMxfp6).values[64]));
  const CodebookFormat& integers = FormatOf(Codebook::kMxint8);
  EXPECT_EQ(integers.values[0x01], 1.0f / 64);
  EXPECT_EQ(integers.values[0x7F], 127.0f / 64);
  EXPECT_EQ(integers.values[0x80], -2.0f);
  EXPECT_EQ(integers.values[0xFF], -1.0f / 64);
  EXPECT_EQ(FormatOf(Codebook::kMxfp4).max_exponent, 2);
  EXPECT_EQ(FormatOf(Codebook::kMxfp6).max_exponent, 2);
  EXPECT_EQ(integers.max_exponent, 0);
}

TEST(Codebook, E4M3IsThatOfTensors) {
  const CodebookFormat& format = FormatOf(Codebook::kF8E4M3);
  for (int code = 0; code < 256; ++code) {
    const float value = F8E4M3ToFloat(static_cast<uint8_t>(code));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(format.values[code])) << code;
    } else {
      EXPECT_EQ(format.values[code], value) << code;
    }
  }
  EXPECT_EQ(format.largest, 448.0f);
}

// QLoRA's appendix E lists the values.
TEST(Codebook, Nf4Values) {
  const std::vector<float> values = Values(Codebook::kNf4, 0, 16);
  EXPECT_EQ(values[0], -1.0f);
  EXPECT_EQ(values[7], 0.0f);
  EXPECT_EQ(values[15], 1.0f);
  EXPECT_FLOAT_EQ(values[1], -0.6961928f);
  EXPECT_FLOAT_EQ(values[6], -0.09105004f);
  EXPECT_FLOAT_EQ(values[8], 0.0795803f);
  EXPECT_FLOAT_EQ(values[14], 0.7229568f);
  for (size_t i = 1; i < values.size(); ++i)
    EXPECT_LT(values[i - 1], values[i]);
}

// All codes are theirs, and what lies between two values goes to the nearer.
TEST(Codebook, NearestIsNearest) {
  for (const Codebook codebook : kAll) {
    const CodebookFormat& format = FormatOf(codebook);
    SCOPED_TRACE(format.name);
    std::vector<std::pair<float, int>> sorted;  // value, code
    for (int code = 0; code < 1 << format.bits; ++code) {
      const float value = format.values[code];
      if (std::isnan(value)) continue;
      const bool unused = codebook == Codebook::kMxint8 && code == 0x80;
      if (unused) continue;
      EXPECT_EQ(NearestCode(format, value), code);
      const bool negative_zero = value == 0 && std::signbit(value);
      if (!negative_zero) sorted.emplace_back(value, code);
    }
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 1; i < sorted.size(); ++i) {
      const float low = sorted[i - 1].first, high = sorted[i].first;
      const float middle = low + (high - low) / 2;
      const auto value = [&](float v) {
        return format.values[NearestCode(format, v)];
      };
      EXPECT_EQ(value(std::nextafter(middle, 1e9f) + 1e-6f * (high - low)),
                high);
      EXPECT_EQ(value(std::nextafter(middle, -1e9f) - 1e-6f * (high - low)),
                low);
      if (format.kind == CodebookKind::kQuantiles) continue;
      // A tie: the even code. Between 0 and -0.5 that is -0.
      EXPECT_EQ(NearestCode(format, middle) % 2, 0) << middle;
    }
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float far : {format.largest * 1.01f, 1e30f, infinity}) {
      EXPECT_EQ(format.values[NearestCode(format, far)], format.largest);
      EXPECT_EQ(format.values[NearestCode(format, -far)], -format.largest);
    }
  }
}

TEST(Codebook, TiesOfE2M1) {
  const CodebookFormat& format = FormatOf(Codebook::kMxfp4);
  const std::pair<float, float> ties[] = {{0.25f, 0}, {0.75f, 1}, {1.25f, 1},
                                          {1.75f, 2}, {2.5f, 2},  {3.5f, 4},
                                          {5, 4},     {-5, -4},   {-3.5f, -4}};
  for (const auto& tie : ties) {
    EXPECT_EQ(format.values[NearestCode(format, tie.first)], tie.second);
  }
}

TEST(Codebook, PowersOfTwo) {
  EXPECT_EQ(E8M0ToFloat(127), 1.0f);
  EXPECT_EQ(E8M0ToFloat(0), 0x1p-127f);
  EXPECT_EQ(E8M0ToFloat(254), 0x1p127f);
  EXPECT_TRUE(std::isnan(E8M0ToFloat(255)));
  for (int bits = 0; bits < 255; ++bits) {
    EXPECT_EQ(FloatToE8M0(E8M0ToFloat(static_cast<uint8_t>(bits))), bits);
  }
}

}  // namespace
}  // namespace qeff
