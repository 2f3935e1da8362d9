// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_read_back.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr GgmlType kTypes[] = {
    GgmlType::kF32,  GgmlType::kF16,  GgmlType::kBF16, GgmlType::kQ8_0,
    GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
    GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kMXFP4};

std::vector<float> RoundTrip(GgmlType type, std::vector<float> values) {
  const GgmlTypeTraits& traits = *FindGgmlType(type);
  if (traits.block_elems > 1) {
    std::vector<uint8_t> blocks(values.size() / traits.block_elems *
                                traits.block_bytes);
    EncodeGgmlRow(type, values, {}, absl::MakeSpan(blocks));
    DecodeGgmlRow(type, blocks, absl::MakeSpan(values));
    return values;
  }
  for (float& v : values) {
    if (type == GgmlType::kF16) v = F16ToFloat(FloatToF16(v));
    if (type == GgmlType::kBF16) v = BF16ToFloat(FloatToBF16(v));
  }
  return values;
}

// Normal weights of all sizes that F16 has a scale for, with outliers and
// equal values: no type moves any of them as far as is allowed, and a value
// that is a block's largest away is found.
TEST(GgufReadBackTest, EveryType) {
  const Random random(1, 0);
  constexpr size_t kElems = size_t{256} * 64;
  for (const GgmlType type : kTypes) {
    for (int exponent = -40; exponent <= 8; exponent += 4) {
      SCOPED_TRACE(std::string(FindGgmlType(type)->name) + " at 2^" +
                   std::to_string(exponent));
      std::vector<float> values(kElems);
      for (size_t i = 0; i < kElems; ++i) {
        values[i] = std::ldexp(random.NormalAt(i), exponent);
        if (random.At(i) % 31 == 0) values[i] *= 8;
        if (i / 256 % 5 == 0) values[i] = values[i / 32 * 32];
      }
      std::vector<float> read = RoundTrip(type, values);
      ASSERT_EQ(FirstWrongReadBack(type, values, read),
                static_cast<int64_t>(kElems));
      if (exponent < -12) continue;  // where scales are subnormal in F16
      const size_t at = 256 * 7 + 77;
      const size_t block = at / 256 * 256;
      float largest = 0;
      for (size_t i = block; i < block + 256; ++i) {
        largest = std::max(largest, std::fabs(values[i]));
      }
      read[at] += 1.1f * largest;
      EXPECT_EQ(FirstWrongReadBack(type, values, read),
                static_cast<int64_t>(at));
      read[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_EQ(FirstWrongReadBack(type, values, read),
                static_cast<int64_t>(at));
    }
  }
}

TEST(GgufReadBackTest, F32IsExact) {
  std::vector<float> values = {1.0f, -2.0f, 0.0f};
  std::vector<float> read = values;
  EXPECT_EQ(FirstWrongReadBack(GgmlType::kF32, values, read), 3);
  read[1] = std::nextafter(-2.0f, 0.0f);
  EXPECT_EQ(FirstWrongReadBack(GgmlType::kF32, values, read), 1);
}

}  // namespace
}  // namespace qeff
