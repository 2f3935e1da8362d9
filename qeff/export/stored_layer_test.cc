// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/stored_layer.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/tensor/dtype.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr QuantizedLayout kLayouts[] = {
    QuantizedLayout::kCompressedTensors, QuantizedLayout::kGptq,
    QuantizedLayout::kGptqV2, QuantizedLayout::kAwq};

// A layer of [32, 64] with 4 bits in groups of 32 and scales of 1, in BF16.
struct Int4Layer {
  Int4Layer() : packed(32 * 32), scales(32 * 2 * 2) {
    for (size_t i = 0; i < scales.size(); i += 2) {
      StoreScale(1.0f, DType::kBF16, scales.data() + i);
    }
    layer.module.module = "m";
    layer.weights.bits = 4;
    layer.weights.group_size = 32;
    QuantizedMatrix& matrix = layer.matrix;
    matrix.module = "m";
    matrix.rows = 32;
    matrix.cols = 64;
    matrix.bits = 4;
    matrix.group_elems = 32;
    matrix.groups = 2;
    matrix.row_bytes = 32;
    matrix.codes.scale_dtype = DType::kBF16;
    matrix.codes.packed = packed;
    matrix.codes.scales = scales;
  }

  std::vector<uint8_t> packed;
  std::vector<uint8_t> scales;
  StoredLayer layer;
};

TEST(StoredLayer, EveryLayoutHoldsFourBits) {
  const Int4Layer int4;
  for (const QuantizedLayout layout : kLayouts) {
    EXPECT_EQ(WhyNotHeld(int4.layer, layout), "");
  }
}

TEST(StoredLayer, NoLayoutHoldsBlocksThatAreNoIntegers) {
  for (const GgmlType type :
       {GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    Int4Layer blocks;
    blocks.layer.weights = WeightQuantization();
    blocks.layer.weights.ggml = type;
    blocks.layer.matrix.ggml = type;
    blocks.layer.matrix.codes = QuantizedRowsView();
    EXPECT_THAT(WhyNotHeld(blocks.layer, QuantizedLayout::kCompressedTensors),
                HasSubstr("no blocks of ggml"));
    for (const auto layout : {QuantizedLayout::kGptq, QuantizedLayout::kAwq}) {
      EXPECT_THAT(WhyNotHeld(blocks.layer, layout),
                  HasSubstr("_k, not integers"));
    }
  }
}

TEST(StoredLayer, ScalesMustBeFloat16) {
  // Of BF16, 2^-17 on are; below, only with few bits; beyond 65504 none.
  const auto why = [](float scale) {
    Int4Layer int4;
    StoreScale(scale, DType::kBF16, int4.scales.data() + 2 * 3);
    EXPECT_EQ(WhyNotHeld(int4.layer, QuantizedLayout::kCompressedTensors), "");
    EXPECT_EQ(WhyNotHeld(int4.layer, QuantizedLayout::kGptqV2),
              WhyNotHeld(int4.layer, QuantizedLayout::kAwq));
    return WhyNotHeld(int4.layer, QuantizedLayout::kAwq);
  };
  EXPECT_EQ(why(0x1.FEp-17f), "");
  EXPECT_EQ(why(-0x1.FEp-17f), "");
  EXPECT_EQ(why(0x1p-24f), "");
  EXPECT_THAT(why(0x1.02p-18f), HasSubstr("the scale of row 1, group 1, is"));
  EXPECT_THAT(why(0x1p-25f), HasSubstr("float16 does not hold exactly"));
  EXPECT_THAT(why(0x1p17f), HasSubstr("131072"));
}

TEST(StoredLayer, ErrorsNameWhatHoldsTheLayer) {
  Int4Layer int4;
  int4.layer.matrix.rows = 4;
  int4.layer.module.module = "model.layers.0.mlp.up_proj";
  const auto model = Transformer::Load(OpenTestModel(WideLlama()));
  const std::string why = WhyNotHeld(int4.layer, QuantizedLayout::kAwq);
  EXPECT_EQ(why, "4 outputs are not a multiple of 8");
  EXPECT_THAT(
      NotHeldError(**model, int4.layer, QuantizedLayout::kAwq, why).message(),
      HasSubstr("awq cannot hold layer model.layers.0.mlp.up_proj: 4 outputs "
                "are not a multiple of 8; it can be written as "
                "compressed-tensors"));
}

}  // namespace
}  // namespace qeff
