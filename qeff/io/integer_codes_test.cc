// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/integer_codes.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/codebook.h"
#include "qeff/io/quantized_layer_testutil.h"

namespace qeff {
namespace {

TEST(IntegerCodes, OfBlocksHaveTheSameValues) {
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0}) {
    const auto checkpoint = OpenLayer(Blocks(type, 64));
    const auto matrix =
        ReadQuantizedMatrix(*checkpoint, "m", BlocksConfig(type));
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    const auto codes = IntegerCodes(*matrix);
    ASSERT_TRUE(codes.ok()) << codes.status();
    EXPECT_EQ(codes->bits, type == GgmlType::kQ4_0 ? 4 : 8);
    EXPECT_EQ(codes->groups, 2);
    EXPECT_EQ(ValuesOf(*codes), ValuesOf(*matrix));
  }
  EXPECT_FALSE(HasIntegerCodes(
      *ReadQuantizedMatrix(*OpenLayer(Blocks(GgmlType::kQ4_K, 256)), "m",
                           BlocksConfig(GgmlType::kQ4_K))));
}

TEST(IntegerCodes, NameBlocksThatAreNotFinite) {
  std::vector<RawTensor> layer = Blocks(GgmlType::kQ4_0, 64);
  layer[0].bytes[36 + 18 + 1] = 0x7C;  // d of the last block: infinity
  layer[0].bytes[36 + 18] = 0;
  const auto checkpoint = OpenLayer(layer);
  const auto matrix =
      ReadQuantizedMatrix(*checkpoint, "m", BlocksConfig(GgmlType::kQ4_0));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  const absl::Status status = IntegerCodes(*matrix).status();
  EXPECT_EQ(status, BlockNotFinite(*matrix, 1, 32));
  EXPECT_EQ(status.message(),
            checkpoint->folder() +
                "/model.safetensors: tensor 'm.weight_blocks': row 1, the "
                "block of column 32: a scale that is not finite");
}

// Shorter last groups, too; all codes, and the ends of the exponents.
TEST(IntegerCodes, OfMxint8HaveTheSameValues) {
  std::vector<RawTensor> layer = CodebookLayer("mxint8", 140);
  for (size_t i = 0; i < layer[0].bytes.size(); ++i) {
    layer[0].bytes[i] = static_cast<char>(i);
  }
  layer[1].bytes = Bytes<uint8_t>({0, 1, 6, 127, 128, 133, 2, 7, 253, 254});
  const auto checkpoint = OpenLayer(layer);
  const auto matrix =
      ReadQuantizedMatrix(*checkpoint, "m", CodebookConfig("mxint8"));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  ASSERT_TRUE(HasIntegerCodes(*matrix));
  const auto codes = IntegerCodes(*matrix);
  ASSERT_TRUE(codes.ok()) << codes.status();
  EXPECT_EQ(codes->bits, 8);
  EXPECT_EQ(codes->groups, 5);
  EXPECT_TRUE(codes->symmetric());
  EXPECT_FALSE(codes->codebook.has_value());
  std::vector<float> values(280);
  ASSERT_TRUE(DequantizeRows(*codes, 0, 2, values.data()).ok());
  std::vector<float> expected(280);
  ASSERT_TRUE(DequantizeRows(*matrix, 0, 2, expected.data()).ok());
  EXPECT_EQ(values, expected);
  const auto floats = OpenLayer(CodebookLayer("mxfp6", 64));
  EXPECT_FALSE(HasIntegerCodes(
      *ReadQuantizedMatrix(*floats, "m", CodebookConfig("mxfp6"))));
}

}  // namespace
}  // namespace qeff
