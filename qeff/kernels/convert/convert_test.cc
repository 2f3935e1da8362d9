// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/convert/convert.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "hwy/tests/hwy_gtest.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

constexpr uint8_t kPoison = 0xA5;

uint32_t Bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

class ConvertTest : public hwy::TestWithParamTarget {};
HWY_TARGET_INSTANTIATE_TEST_SUITE_P(ConvertTest);

// All 65536 values, at both parities of the address.
TEST_P(ConvertTest, SixteenBitTypesExhaustively) {
  std::vector<uint8_t> bytes(2 * 65536 + 1);
  for (size_t misaligned : {0, 1}) {
    for (uint32_t i = 0; i < 65536; ++i) {
      const uint16_t bits = static_cast<uint16_t>(i);
      std::memcpy(&bytes[misaligned + 2 * i], &bits, 2);
    }
    const auto from = absl::MakeSpan(bytes).subspan(misaligned, 2 * 65536);
    std::vector<float> bf16(65536), f16(65536);
    ConvertToFloat(DType::kBF16, from, absl::MakeSpan(bf16));
    ConvertToFloat(DType::kF16, from, absl::MakeSpan(f16));
    for (uint32_t i = 0; i < 65536; ++i) {
      const uint16_t bits = static_cast<uint16_t>(i);
      ASSERT_EQ(Bits(bf16[i]), Bits(BF16ToFloat(bits))) << i;
      ASSERT_EQ(Bits(f16[i]), Bits(F16ToFloat(bits))) << i;
    }
  }
}

// Values at and beside every boundary of rounding, and random bits.
std::vector<float> Values() {
  std::vector<float> values;
  const auto add_around = [&](float value) {
    for (float v : {value, std::nextafter(value, INFINITY),
                    std::nextafter(value, -INFINITY)}) {
      values.push_back(v);
      values.push_back(-v);
    }
  };
  for (uint32_t i = 0; i < 0x7C00; i += 3) {
    const float low = F16ToFloat(static_cast<uint16_t>(i));
    const float high = F16ToFloat(static_cast<uint16_t>(i + 1));
    add_around(low);
    if (std::isfinite(high)) add_around((low + high) / 2);
  }
  for (float v : {65504.0f, 65519.0f, 65520.0f, 65536.0f, 3e38f, 1e-8f, 1e-45f,
                  0x1p-25f, 0x1.8p-24f, 0x1p-14f}) {
    add_around(v);
  }
  values.push_back(std::numeric_limits<float>::infinity());
  values.push_back(-std::numeric_limits<float>::infinity());
  values.push_back(std::numeric_limits<float>::quiet_NaN());
  Random random(7);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t bits = static_cast<uint32_t>(random.Next());
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    values.push_back(value);
  }
  return values;
}

TEST_P(ConvertTest, RoundsAsTheScalarFunctions) {
  const std::vector<float> values = Values();
  std::vector<uint8_t> bf16(2 * values.size() + 1), f16(2 * values.size() + 1);
  ConvertFromFloat(values, DType::kBF16, absl::MakeSpan(bf16).subspan(1));
  ConvertFromFloat(values, DType::kF16, absl::MakeSpan(f16).subspan(1));
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, &bf16[1 + 2 * i], 2);
    ASSERT_EQ(bits, FloatToBF16(values[i])) << i << ": " << values[i];
    std::memcpy(&bits, &f16[1 + 2 * i], 2);
    ASSERT_EQ(bits, FloatToF16(values[i])) << i << ": " << values[i];
  }
}

TEST_P(ConvertTest, EveryRemainderWritesNothingElse) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    const size_t size = DTypeBytes(dtype);
    for (size_t count = 0; count < 70; ++count) {
      for (size_t misaligned : {0, 1, 3}) {
        std::vector<float> values(count);
        for (size_t i = 0; i < count; ++i) {
          values[i] = static_cast<float>(i) * 0.5f - 7;
        }
        std::vector<uint8_t> bytes(misaligned + count * size + 64, kPoison);
        const auto stored =
            absl::MakeSpan(bytes).subspan(misaligned, count * size);
        ConvertFromFloat(values, dtype, stored);
        for (size_t i = misaligned + count * size; i < bytes.size(); ++i) {
          ASSERT_EQ(bytes[i], kPoison);
        }
        std::vector<float> back(count + 16, -1.0f);
        ConvertToFloat(dtype, stored, absl::MakeSpan(back).subspan(0, count));
        for (size_t i = 0; i < back.size(); ++i) {
          ASSERT_EQ(back[i], i < count ? values[i] : -1.0f) << i;
        }
      }
    }
  }
}

TEST(Convert, RareTypes) {
  const double d = 0.1;
  uint8_t bytes[8];
  std::memcpy(bytes, &d, sizeof(d));
  float value;
  ConvertToFloat(DType::kF64, bytes, absl::MakeSpan(&value, 1));
  EXPECT_EQ(value, 0.1f);
  const uint8_t f8[] = {0x38, 0xB8};
  float values[2];
  ConvertToFloat(DType::kF8E4M3, f8, absl::MakeSpan(values));
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], -1.0f);
  ConvertToFloat(DType::kF8E5M2, f8, absl::MakeSpan(values));
  EXPECT_EQ(values[0], 0.5f);
  EXPECT_EQ(values[1], -0.5f);
}

}  // namespace
}  // namespace qeff
