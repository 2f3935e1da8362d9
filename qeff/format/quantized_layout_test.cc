// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/quantized_layout.h"

#include "gtest/gtest.h"

namespace qeff {
namespace {

QuantScheme Scheme(const char* name, bool symmetric = true) {
  QuantScheme scheme = ParseQuantScheme(name).value();
  scheme.symmetric = symmetric;
  return scheme;
}

TEST(QuantizedLayout, GroupedTensors) {
  const QuantizedShape shape(Scheme("int4_g32"), 64, 96);
  const auto tensors = QuantizedTensors("m.q_proj", shape, DType::kBF16);
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].name, "m.q_proj.weight_packed");
  EXPECT_EQ(tensors[0].dtype, DType::kI32);
  EXPECT_EQ(tensors[0].shape, Shape({64, 12}));
  EXPECT_EQ(tensors[1].name, "m.q_proj.weight_scale");
  EXPECT_EQ(tensors[1].dtype, DType::kBF16);
  EXPECT_EQ(tensors[1].shape, Shape({64, 3}));
  EXPECT_EQ(tensors[2].name, "m.q_proj.weight_shape");
  EXPECT_EQ(tensors[2].dtype, DType::kI64);
  EXPECT_EQ(tensors[2].shape, Shape({2}));
  EXPECT_DOUBLE_EQ(shape.BitsPerWeight(DType::kBF16), 4.5);
  EXPECT_EQ(shape.StoredBytes(DType::kBF16), 64u * 96 * 9 / 16 + 16);
}

TEST(QuantizedLayout, ZeroPointsArePackedAlongRows) {
  const QuantizedShape shape(Scheme("int4_g32", false), 10, 64);
  const auto tensors = QuantizedTensors("m", shape, DType::kF16);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[2].name, "m.weight_zero_point");
  EXPECT_EQ(tensors[2].dtype, DType::kI32);
  EXPECT_EQ(tensors[2].shape, Shape({2, 2}));
}

TEST(QuantizedLayout, PerRowAndShorterLastGroup) {
  const QuantizedShape per_row(Scheme("int8"), 4, 30);
  EXPECT_EQ(per_row.groups, 1);
  EXPECT_EQ(per_row.group_elems, 30);
  EXPECT_EQ(per_row.row_words, 8);
  const QuantizedShape shorter(Scheme("int3_g64"), 4, 172);
  EXPECT_EQ(shorter.groups, 3);
  EXPECT_EQ(shorter.row_words, 17);  // 516 bits
}

TEST(QuantizedLayout, EmptyMatrices) {
  const QuantizedShape no_rows(Scheme("int4_g32", false), 0, 64);
  EXPECT_EQ(no_rows.StoredBytes(DType::kBF16), 16u);
  EXPECT_EQ(no_rows.BitsPerWeight(DType::kBF16), 0);
  const QuantizedShape no_cols(Scheme("int8"), 3, 0);
  EXPECT_EQ(no_cols.groups, 0);
  EXPECT_EQ(no_cols.StoredBytes(DType::kBF16), 16u);
}

TEST(QuantizedLayout, WhatCompressedTensorsCannotHold) {
  EXPECT_EQ(WhyNotCompressedTensors(Scheme("int4_g32"), 64, false), "");
  EXPECT_EQ(WhyNotCompressedTensors(Scheme("int8"), 172, false), "");
  EXPECT_NE(WhyNotCompressedTensors(Scheme("int4_g32"), 172, false)
                .find("32 do not divide rows of 172"),
            std::string::npos);
  EXPECT_NE(WhyNotCompressedTensors(Scheme("int3_g32"), 64, false), "");
  EXPECT_NE(WhyNotCompressedTensors(Scheme("int4_g32"), 64, true), "");
}

TEST(QuantizedLayout, SignedBytes) {
  for (const bool has_scale : {false, true}) {
    const QuantizedShape shape(Scheme(has_scale ? "w8a8_static" : "w8a8"), 4,
                               30);
    const auto tensors = QuantizedTensors("m", shape, DType::kBF16);
    ASSERT_EQ(tensors.size(), has_scale ? 3u : 2u);
    EXPECT_EQ(tensors[0].name, "m.weight");
    EXPECT_EQ(tensors[0].dtype, DType::kI8);
    EXPECT_EQ(tensors[0].shape, Shape({4, 30}));
    EXPECT_EQ(tensors[1].name, "m.weight_scale");
    EXPECT_EQ(tensors[1].shape, Shape({4, 1}));
    EXPECT_EQ(shape.StoredBytes(DType::kBF16),
              4u * 30 + 4 * 2 + (has_scale ? 4 : 0));
    EXPECT_DOUBLE_EQ(shape.BitsPerWeight(DType::kBF16), 8 + 16.0 / 30);
    if (!has_scale) continue;
    EXPECT_EQ(tensors[2].name, "m.input_scale");
    EXPECT_EQ(tensors[2].dtype, DType::kF32);
    EXPECT_EQ(tensors[2].shape, Shape({1}));
  }
  EXPECT_EQ(WhyNotCompressedTensors(Scheme("w8a8"), 30, false), "");
}

TEST(QuantizedLayout, BlocksOfGgml) {
  const QuantScheme scheme = ParseQuantScheme("q4_k").value();
  const QuantizedShape shape(scheme, 3, 512);
  EXPECT_EQ(shape.block_row_bytes, 2 * 144);
  EXPECT_EQ(shape.StoredBytes(DType::kBF16), 3u * 2 * 144 + 16);
  EXPECT_EQ(shape.BitsPerWeight(DType::kBF16), 4.5);
  const auto tensors = QuantizedTensors("m", shape, DType::kBF16);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "m.weight_blocks");
  EXPECT_EQ(tensors[0].dtype, DType::kU8);
  EXPECT_EQ(tensors[0].shape, Shape({3, 288}));
  EXPECT_EQ(tensors[1].name, "m.weight_shape");
  EXPECT_EQ(WhyNotQuantized(scheme, 512), "");
  EXPECT_EQ(WhyNotQuantized(scheme, 576),
            "rows of 576 are not whole blocks of 256");
  EXPECT_EQ(WhyNotQuantized(ParseQuantScheme("int4_g128").value(), 576), "");
  EXPECT_EQ(WhyNotCompressedTensors(scheme, 512, false),
            "it has no blocks of ggml");
}

TEST(QuantizedLayout, Codebooks) {
  const QuantizedShape nf4(Scheme("nf4"), 3, 172);
  EXPECT_EQ(nf4.row_bytes, 88);
  EXPECT_EQ(nf4.groups, 3);
  auto tensors = QuantizedTensors("m", nf4, DType::kBF16);
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].shape, Shape({3, 22}));
  EXPECT_EQ(QuantizedShape(Scheme("nf4"), 3, 128).BitsPerWeight(DType::kBF16),
            4.25);
  const QuantizedShape mxfp6(Scheme("mxfp6"), 2, 64);
  EXPECT_EQ(mxfp6.BitsPerWeight(DType::kU8), 6.25);
  EXPECT_EQ(mxfp6.StoredBytes(DType::kU8), 2u * 50 + 16);
  EXPECT_EQ(QuantizedTensors("m", mxfp6, DType::kU8)[1].dtype, DType::kU8);

  // As compressed-tensors has them.
  tensors =
      QuantizedTensors("m", QuantizedShape(Scheme("mxfp4"), 2, 64), DType::kU8);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "m.weight_packed");
  EXPECT_EQ(tensors[0].dtype, DType::kU8);
  EXPECT_EQ(tensors[0].shape, Shape({2, 32}));
  EXPECT_EQ(tensors[1].shape, Shape({2, 2}));
  tensors = QuantizedTensors("m", QuantizedShape(Scheme("fp8_e4m3"), 2, 63),
                             DType::kBF16);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "m.weight");
  EXPECT_EQ(tensors[0].dtype, DType::kF8E4M3);
  EXPECT_EQ(tensors[0].shape, Shape({2, 63}));
  EXPECT_EQ(tensors[1].shape, Shape({2, 1}));
  EXPECT_EQ(QuantizedShape(Scheme("fp8_e4m3"), 2, 63).StoredBytes(DType::kF16),
            2u * 63 + 4);

  EXPECT_EQ(WhyNotQuantized(Scheme("mxfp4"), 63),
            "rows of 63 are not whole bytes of mxfp4");
  EXPECT_EQ(WhyNotQuantized(Scheme("mxfp6"), 63), "");
  EXPECT_EQ(WhyNotCompressedTensors(Scheme("mxfp4"), 64, false), "");
  EXPECT_NE(WhyNotCompressedTensors(Scheme("mxfp4"), 172, false), "");
  EXPECT_EQ(WhyNotCompressedTensors(Scheme("fp8_e4m3"), 172, false), "");
  EXPECT_EQ(WhyNotCompressedTensors(Scheme("nf4"), 64, false), "it has no nf4");
}

}  // namespace
}  // namespace qeff
