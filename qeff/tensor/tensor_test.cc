// SPDX-License-Identifier: Apache-2.0

#include "qeff/tensor/tensor.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(DTypeTest, NamesRoundTrip) {
  for (int i = 0; i <= static_cast<int>(DType::kF8E5M2); ++i) {
    const DType dtype = static_cast<DType>(i);
    EXPECT_EQ(DTypeFromName(DTypeName(dtype)), dtype);
  }
  EXPECT_FALSE(DTypeFromName("f32").has_value());
  EXPECT_FALSE(DTypeFromName("F128").has_value());
  EXPECT_EQ(DTypeBytes(DType::kF8E4M3), 1u);
  EXPECT_EQ(DTypeBytes(DType::kI64), 8u);
}

TEST(DTypeTest, EveryF16RoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = F16ToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(F16ToFloat(FloatToF16(value))));
      continue;
    }
    EXPECT_EQ(FloatToF16(value), bits);
  }
}

TEST(DTypeTest, F16RoundsToNearestEven) {
  EXPECT_EQ(FloatToF16(1.0f + 1.0f / 2048), FloatToF16(1.0f));
  EXPECT_EQ(FloatToF16(1.0f + 3.0f / 2048), FloatToF16(1.0f + 2.0f / 1024));
  EXPECT_EQ(FloatToF16(65519.99f), 0x7BFF);
  EXPECT_EQ(FloatToF16(65520.0f), 0x7C00);
  EXPECT_EQ(FloatToF16(-1e30f), 0xFC00);
  EXPECT_EQ(FloatToF16(std::ldexp(1.0f, -25)), 0x0000);  // tie to even
  EXPECT_EQ(FloatToF16(std::ldexp(1.5f, -24)), 0x0002);
}

TEST(DTypeTest, EveryBF16RoundTrips) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = BF16ToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    EXPECT_EQ(FloatToBF16(value), bits);
  }
  EXPECT_EQ(FloatToBF16(1.0f + 1.0f / 256), 0x3F80);
  EXPECT_EQ(FloatToBF16(1.0f + 3.0f / 256), 0x3F82);
  EXPECT_TRUE(std::isnan(
      BF16ToFloat(FloatToBF16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(DTypeTest, F8Values) {
  EXPECT_EQ(F8E4M3ToFloat(0x7E), 448.0f);
  EXPECT_EQ(F8E4M3ToFloat(0x01), std::ldexp(1.0f, -9));
  EXPECT_EQ(F8E4M3ToFloat(0xB8), -1.0f);
  EXPECT_TRUE(std::isnan(F8E4M3ToFloat(0xFF)));
  EXPECT_EQ(F8E5M2ToFloat(0x7B), 57344.0f);
  EXPECT_TRUE(std::isinf(F8E5M2ToFloat(0xFC)));
}

TEST(ShapeTest, ChecksTheProduct) {
  EXPECT_EQ(Shape({2, 3}).num_elements().value(), 6u);
  EXPECT_EQ(Shape().num_elements().value(), 1u);
  EXPECT_EQ(Shape({5, 0}).num_elements().value(), 0u);
  EXPECT_FALSE(
      Shape({int64_t{1} << 32, int64_t{1} << 32}).num_elements().valid());
  EXPECT_FALSE(Shape({-1}).num_elements().valid());
  EXPECT_EQ(Shape({2, 3}).ToString(), "[2, 3]");
}

TEST(TensorTest, ReadsUnalignedFloats) {
  std::vector<uint8_t> bytes(1 + 3 * 4);
  const float values[3] = {1.5f, -2.0f, 3.25f};
  std::memcpy(bytes.data() + 1, values, sizeof(values));
  const TensorView view{DType::kF32, Shape({3}),
                        absl::MakeConstSpan(bytes).subspan(1)};
  float out[2];
  ReadFloats(view, 1, absl::MakeSpan(out));
  EXPECT_EQ(out[0], -2.0f);
  EXPECT_EQ(out[1], 3.25f);
}

TEST(MatrixTest, Views) {
  Matrix<float> m(3, 4);
  m.row(1)[2] = 5.0f;
  const MatrixView<const float> part = m.view().Rows(1, 2).Cols(2, 2);
  EXPECT_EQ(part.row(0)[0], 5.0f);
  EXPECT_EQ(part.stride_elems(), 4);
}

}  // namespace
}  // namespace qeff
