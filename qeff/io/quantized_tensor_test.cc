// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/quantized_tensor.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/format/packing.h"
#include "qeff/io/integer_codes.h"
#include "qeff/io/quantized_layer_testutil.h"

namespace qeff {
namespace {

constexpr uint16_t kOne = 0x3F80;  // BF16
constexpr uint16_t kHalf = 0x3F00;
constexpr uint16_t kNan = 0x7FC0;

// A layer "m" of [2, 8] with 4 bits in groups of 4; codes 0..7 and 8..15.
std::vector<RawTensor> Layer() {
  return {
      {"m.weight_packed",
       "I32",
       {2, 1},
       Bytes<uint32_t>({0x76543210u, 0xFEDCBA98u})},
      {"m.weight_scale",
       "BF16",
       {2, 2},
       Bytes<uint16_t>({kOne, kHalf, kOne, kHalf})},
      {"m.weight_shape", "I64", {2}, Bytes<int64_t>({2, 8})},
  };
}

QuantizationConfig Config(
    int bits, bool symmetric, QuantStrategy strategy, int64_t group_size,
    QuantizedLayout layout = QuantizedLayout::kCompressedTensors) {
  WeightQuantization weights;
  weights.bits = bits;
  weights.symmetric = symmetric;
  weights.strategy = strategy;
  weights.group_size = group_size;
  return QuantizationConfig::Create(layout, {{{"Linear"}, weights}},
                                    {"lm_head"})
      .value();
}

QuantizationConfig Int4Groups() {
  return Config(4, true, QuantStrategy::kGroup, 4);
}

TEST(QuantizedTensor, ReadsGroups) {
  const auto checkpoint = OpenLayer(Layer());
  EXPECT_TRUE(HasQuantizedWeight(*checkpoint, "m"));
  EXPECT_FALSE(HasQuantizedWeight(*checkpoint, "lm_head"));
  const auto matrix = ReadQuantizedMatrix(*checkpoint, "m", Int4Groups());
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->rows, 2);
  EXPECT_EQ(matrix->cols, 8);
  EXPECT_EQ(matrix->bits, 4);
  EXPECT_EQ(matrix->groups, 2);
  EXPECT_TRUE(matrix->symmetric());
  EXPECT_TRUE(matrix->owned.empty());
  EXPECT_EQ(ValuesOf(*matrix),
            std::vector<float>({-8, -7, -6, -5, -2, -1.5, -1, -0.5,  //
                                0, 1, 2, 3, 2, 2.5, 3, 3.5}));
  std::vector<float> row(8);
  ASSERT_TRUE(DequantizeRows(*matrix, 1, 1, row.data()).ok());
  EXPECT_EQ(row[7], 3.5f);
  EXPECT_EQ(DequantizeRows(*matrix, 1, 2, row.data()).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(DequantizeRows(*matrix, -1, 1, row.data()).code(),
            absl::StatusCode::kOutOfRange);
  ReleaseRows(*checkpoint, *matrix, 0, 2);
  EXPECT_EQ(ValuesOf(*matrix)[0], -8.0f);
}

TEST(QuantizedTensor, ReadsChannelsAndWholeTensors) {
  auto tensors = Layer();
  tensors[1] = {"m.weight_scale", "F32", {2, 1}, Bytes<float>({1.0f, -2.0f})};
  auto matrix = ReadQuantizedMatrix(
      *OpenLayer(tensors), "m", Config(4, true, QuantStrategy::kChannel, 0));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->groups, 1);
  const auto checkpoint = OpenLayer(tensors);
  tensors[1] = {"m.weight_scale", "F32", {1}, Bytes<float>({3.0f})};
  const auto whole = OpenLayer(tensors);
  matrix = ReadQuantizedMatrix(*whole, "m",
                               Config(4, true, QuantStrategy::kTensor, 0));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(ValuesOf(*matrix)[0], -24.0f);
  EXPECT_EQ(ValuesOf(*matrix)[15], 21.0f);
}

TEST(QuantizedTensor, ReadsActivationOrder) {
  auto tensors = Layer();
  const auto read = [&](const std::vector<int32_t>& groups) {
    tensors.resize(3);
    tensors.push_back({"m.weight_g_idx", "I32", {8}, Bytes(groups)});
    return OpenLayer(tensors);
  };
  // Even columns have the first scale, 1, odd ones 0.5.
  const auto checkpoint = read({0, 1, 0, 1, 0, 1, 0, 1});
  const auto matrix = ReadQuantizedMatrix(*checkpoint, "m", Int4Groups());
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  ASSERT_NE(matrix->column_groups, nullptr);
  EXPECT_EQ(ValuesOf(*matrix),
            std::vector<float>({-8, -3.5, -6, -2.5, -4, -1.5, -2, -0.5,  //
                                0, 0.5, 2, 1.5, 4, 2.5, 6, 3.5}));
  const auto unordered = read(std::vector<int32_t>(8, -1));
  EXPECT_EQ(ReadQuantizedMatrix(*unordered, "m", Int4Groups())->column_groups,
            nullptr);
  const auto uneven =
      ReadQuantizedMatrix(*read({0, 1, 1, 1, 0, 1, 0, 1}), "m", Int4Groups());
  EXPECT_EQ(uneven.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(uneven.status().message(),
                                "group 0: expected 4 columns, found 3"))
      << uneven.status();
}

TEST(QuantizedTensor, ReadsZeroPointsInBothForms) {
  // Zero points (signed) -8, 0 and 7, 1.
  const std::vector<float> expected = {0,  1,  2,  3,  -2,  -1.5, -1,  -0.5,
                                       -7, -6, -5, -4, 1.5, 2,    2.5, 3};
  const QuantizationConfig config = Config(4, false, QuantStrategy::kGroup, 4);
  auto tensors = Layer();
  tensors.push_back(
      {"m.weight_zero_point", "I8", {2, 2}, Bytes<int8_t>({-8, 0, 7, 1})});
  const auto bytes = OpenLayer(tensors);
  auto matrix = ReadQuantizedMatrix(*bytes, "m", config);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(ValuesOf(*matrix), expected);
  tensors.back() = {
      "m.weight_zero_point", "I32", {1, 2}, Bytes<uint32_t>({0xF0, 0x98})};
  const auto packed = OpenLayer(tensors);
  matrix = ReadQuantizedMatrix(*packed, "m", config);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_FALSE(matrix->symmetric());
  EXPECT_EQ(ValuesOf(*matrix), expected);
}

TEST(QuantizedTensor, ReadsThreeBitsInBothForms) {
  // The golden row (5 i mod 8) - 4, spaced and dense.
  std::vector<float> expected;
  for (int i = 0; i < 32; ++i) {
    expected.push_back(static_cast<float>(5 * i % 8 - 4));
  }
  const QuantizationConfig config = Config(3, true, QuantStrategy::kChannel, 0);
  for (bool spaced : {true, false}) {
    const auto words =
        spaced ? std::vector<int32_t>({679005864, 983687994, 216696716, 30})
               : std::vector<int32_t>({-1468477784, -827819826, 2026809464});
    const auto checkpoint =
        OpenLayer({{"m.weight_packed",
                    "I32",
                    {1, static_cast<int64_t>(words.size())},
                    Bytes(words)},
                   {"m.weight_scale", "BF16", {1, 1}, Bytes<uint16_t>({kOne})},
                   {"m.weight_shape", "I64", {2}, Bytes<int64_t>({1, 32})}});
    const auto matrix = ReadQuantizedMatrix(*checkpoint, "m", config);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_EQ(ValuesOf(*matrix), expected);
    EXPECT_EQ(matrix->owned.size(), spaced ? 1u : 0u);
    ReleaseRows(*checkpoint, *matrix, 0, 1);
    EXPECT_EQ(ValuesOf(*matrix), expected);
  }
}

TEST(QuantizedTensor, ShorterLastGroupInQeffLayoutOnly) {
  auto tensors = Layer();
  tensors[2].bytes = Bytes<int64_t>({2, 7});
  const auto checkpoint = OpenLayer(tensors);
  auto matrix = ReadQuantizedMatrix(*checkpoint, "m", Int4Groups());
  EXPECT_EQ(matrix.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(matrix.status().message().find("groups of 4"), std::string::npos);
  matrix = ReadQuantizedMatrix(
      *checkpoint, "m",
      Config(4, true, QuantStrategy::kGroup, 4, QuantizedLayout::kQeff));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(ValuesOf(*matrix),
            std::vector<float>({-8, -7, -6, -5, -2, -1.5, -1,  //
                                0, 1, 2, 3, 2, 2.5, 3}));
}

TEST(QuantizedTensor, ErrorsNameTensorAndWhatWasFound) {
  struct Change {
    size_t tensor;
    RawTensor replacement;
    const char* message;
  };
  const std::string two_words = Bytes<uint32_t>({0, 0});
  for (const Change& change : {
           Change{0,
                  {"m.weight_packed", "I64", {1, 1}, two_words},
                  "expected dtype I32, found I64"},
           Change{0,
                  {"m.weight_packed", "I32", {1, 2}, two_words},
                  "expected shape [2, 1], found [1, 2]"},
           Change{0,
                  {"m.weight_packed", "I32", {2}, two_words},
                  "expected shape [2, 1], found [2]"},
           Change{1,
                  {"m.weight_scale", "I32", {1, 2}, two_words},
                  "F16, BF16 or F32"},
           Change{1,
                  {"m.weight_scale", "BF16", {4, 1}, two_words},
                  "expected shape [2, 2]"},
           Change{1,
                  {"m.weight_scale",
                   "BF16",
                   {2, 2},
                   Bytes<uint16_t>({kOne, kOne, kNan, kOne})},
                  "scale 2 is nan"},
           Change{2,
                  {"m.weight_shape", "I64", {1}, Bytes<int64_t>({2})},
                  "expected shape [2]"},
           Change{2,
                  {"m.weight_shape", "I32", {2}, Bytes<int32_t>({2, 8})},
                  "expected dtype I64"},
           Change{2,
                  {"m.weight_shape", "I64", {2}, Bytes<int64_t>({2, -8})},
                  "found -8"},
           Change{2,
                  {"m.weight_shape", "I64", {2}, Bytes<int64_t>({0, 8})},
                  "found 0"},
           Change{2,
                  {"m.weight_shape",
                   "I64",
                   {2},
                   Bytes<int64_t>({2, int64_t{1} << 62})},
                  "expected sizes"},
           Change{2,
                  {"m.weight_shape", "I64", {2}, Bytes<int64_t>({2, 12})},
                  "expected shape [2, 2], found [2, 1]"},
           Change{2,
                  {"m.weight_shape",
                   "I64",
                   {2},
                   Bytes<int64_t>({int64_t{1} << 40, int64_t{1} << 40})},
                  "expected shape"},
       }) {
    auto tensors = Layer();
    tensors[change.tensor] = change.replacement;
    const auto matrix =
        ReadQuantizedMatrix(*OpenLayer(tensors), "m", Int4Groups());
    EXPECT_EQ(matrix.status().code(), absl::StatusCode::kInvalidArgument)
        << change.message;
    EXPECT_NE(matrix.status().message().find(change.message), std::string::npos)
        << matrix.status();
    EXPECT_NE(matrix.status().message().find("m.weight_"), std::string::npos);
  }
}

TEST(QuantizedTensor, OtherErrors) {
  for (size_t missing = 0; missing < 3; ++missing) {
    auto tensors = Layer();
    tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(missing));
    EXPECT_EQ(ReadQuantizedMatrix(*OpenLayer(tensors), "m", Int4Groups())
                  .status()
                  .code(),
              absl::StatusCode::kNotFound);
  }
  const auto checkpoint = OpenLayer(Layer());
  EXPECT_EQ(ReadQuantizedMatrix(*checkpoint, "m",
                                Config(4, false, QuantStrategy::kGroup, 4))
                .status()
                .code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(
      ReadQuantizedMatrix(*checkpoint, "lm_head", Int4Groups()).status().code(),
      absl::StatusCode::kInvalidArgument);
  auto tensors = Layer();
  tensors.push_back({"m.weight_g_idx", "I32", {1}, Bytes<int32_t>({0})});
  EXPECT_EQ(ReadQuantizedMatrix(*OpenLayer(tensors), "m", Int4Groups())
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  tensors.back() = {
      "m.weight_zero_point", "I8", {2, 2}, Bytes<int8_t>({0, 8, 0, 0})};
  const auto out_of_range = ReadQuantizedMatrix(
      *OpenLayer(tensors), "m", Config(4, false, QuantStrategy::kGroup, 4));
  EXPECT_EQ(out_of_range.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(out_of_range.status().message().find("zero point 1 is 8"),
            std::string::npos);
}

// A layer "m" of [2, 3] as signed bytes, with scales of rows and of its inputs.
std::vector<RawTensor> SignedLayer() {
  return {{"m.weight", "I8", {2, 3}, Bytes<int8_t>({-128, 0, 127, 1, -1, 2})},
          {"m.weight_scale", "BF16", {2, 1}, Bytes<uint16_t>({kOne, kHalf})},
          {"m.input_scale", "F32", {1}, Bytes<float>({0.25f})}};
}

QuantizationConfig SignedConfig(InputCodes inputs, bool symmetric = true) {
  WeightQuantization weights;
  weights.bits = 8;
  weights.symmetric = symmetric;
  weights.strategy = QuantStrategy::kChannel;
  weights.signed_bytes = true;
  weights.inputs = inputs;
  return QuantizationConfig::Create(QuantizedLayout::kCompressedTensors,
                                    {{{"Linear"}, weights}}, {})
      .value();
}

TEST(QuantizedTensor, ReadsSignedBytes) {
  auto tensors = SignedLayer();
  const auto checkpoint = OpenLayer(tensors);
  EXPECT_TRUE(HasQuantizedWeight(*checkpoint, "m"));
  const auto matrix =
      ReadQuantizedMatrix(*checkpoint, "m", SignedConfig(InputCodes::kStatic));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->inputs, InputCodes::kStatic);
  EXPECT_EQ(matrix->input_scale, 0.25f);
  const std::vector<float> expected = {-128, 0, 127, 0.5f, -0.5f, 1};
  EXPECT_EQ(ValuesOf(*matrix), expected);
  std::vector<float> row(3);
  ASSERT_TRUE(DequantizeRows(*matrix, 1, 1, row.data()).ok());
  EXPECT_EQ(row, (std::vector<float>{0.5f, -0.5f, 1}));
  // Rows of packed codes are padded to words.
  const QuantizedMatrix packed = IntegerCodes(*matrix).value();
  EXPECT_EQ(packed.codes.packed, absl::MakeConstSpan(std::vector<uint8_t>{
                                     0, 128, 255, 0, 129, 127, 130, 0}));
  EXPECT_EQ(packed.input_scale, 0.25f);
  EXPECT_EQ(ValuesOf(packed), expected);
  ReleaseRows(*checkpoint, *matrix, 0, 2);
  EXPECT_EQ(ValuesOf(*matrix), expected);

  // With zero points, and with a scale of inputs that nobody asks for.
  tensors.push_back(
      {"m.weight_zero_point", "I8", {2, 1}, Bytes<int8_t>({-8, 1})});
  const auto asymmetric = OpenLayer(tensors);
  const auto zeros = ReadQuantizedMatrix(
      *asymmetric, "m", SignedConfig(InputCodes::kPerToken, false));
  ASSERT_TRUE(zeros.ok()) << zeros.status();
  EXPECT_EQ(zeros->input_scale, 0);
  EXPECT_EQ(ValuesOf(*zeros), (std::vector<float>{-120, 8, 135, 0, -1, 0.5f}));
  EXPECT_EQ(ValuesOf(IntegerCodes(*zeros).value()), ValuesOf(*zeros));
}

TEST(QuantizedTensor, ErrorsOfSignedBytesAndInputScales) {
  const auto error = [](size_t tensor, const RawTensor& replacement) {
    auto tensors = SignedLayer();
    tensors[tensor] = replacement;
    const auto matrix = ReadQuantizedMatrix(*OpenLayer(tensors), "m",
                                            SignedConfig(InputCodes::kStatic));
    return std::string(matrix.status().message());
  };
  const auto expect = [](const std::string& message, const char* part) {
    EXPECT_TRUE(absl::StrContains(message, part)) << message;
  };
  expect(error(0, {"m.weight", "I8", {6}, Bytes<int8_t>({1, 2, 3, 4, 5, 6})}),
         "'m.weight': expected two sizes");
  expect(error(0, {"m.weight", "U8", {2, 3}, std::string(6, 'x')}),
         "expected dtype I8, found U8");
  expect(error(0, {"m.weight", "I8", {0, 3}, ""}),
         "'m.weight': expected two sizes");
  expect(error(0, {"m.weight", "I8", {3, 2}, std::string(6, 'x')}),
         "'m.weight_scale': expected shape [3, 1]");
  for (const float scale : {0.0f, -1.0f, std::nanf(""), 0x1p-127f,
                            std::numeric_limits<float>::infinity()}) {
    expect(error(2, {"m.input_scale", "F32", {1}, Bytes<float>({scale})}),
           "'m.input_scale': expected a positive number, found");
  }
  expect(error(2, {"m.input_scale", "F32", {2}, Bytes<float>({1, 1})}),
         "'m.input_scale': expected shape [1], found [2]");
  expect(error(2, {"m.input_scale", "I32", {1}, Bytes<int32_t>({1})}),
         "'m.input_scale': expected dtype F16, BF16 or F32");
  expect(error(2, {"m.other", "F32", {1}, Bytes<float>({1})}), "m.input_scale");
  EXPECT_EQ(error(2, {"m.input_scale", "BF16", {}, Bytes<uint16_t>({kOne})}),
            "");
}

TEST(QuantizedTensor, ReadsBlocksOfGgml) {
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_K,
                              GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    SCOPED_TRACE(FindGgmlType(type)->name);
    const std::vector<RawTensor> layer = Blocks(type, 512);
    const auto checkpoint = OpenLayer(layer);
    EXPECT_TRUE(HasQuantizedWeight(*checkpoint, "m"));
    const auto matrix =
        ReadQuantizedMatrix(*checkpoint, "m", BlocksConfig(type));
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_EQ(matrix->ggml, type);
    EXPECT_EQ(matrix->cols, 512);
    EXPECT_TRUE(matrix->owned.empty());
    std::vector<float> expected(512);
    DecodeGgmlRow(
        type,
        matrix->blocks.subspan(static_cast<size_t>(matrix->row_bytes),
                               static_cast<size_t>(matrix->row_bytes)),
        absl::MakeSpan(expected));
    std::vector<float> row(512);
    ASSERT_TRUE(DequantizeRows(*matrix, 1, 1, row.data()).ok());
    EXPECT_EQ(row, expected);
    ReleaseRows(*checkpoint, *matrix, 0, 2);
  }
}

TEST(QuantizedTensor, BadBlocks) {
  const auto error = [](const std::vector<RawTensor>& layer,
                        GgmlType type = GgmlType::kQ4_0) {
    return std::string(
        ReadQuantizedMatrix(*OpenLayer(layer), "m", BlocksConfig(type))
            .status()
            .message());
  };
  std::vector<RawTensor> layer = Blocks(GgmlType::kQ4_0, 64);
  EXPECT_TRUE(absl::StrContains(error(layer, GgmlType::kQ4_K),
                                "rows of 64 are not whole blocks of 256"));
  EXPECT_TRUE(absl::StrContains(error(layer, GgmlType::kQ8_0),
                                "expected shape [2, 68], found [2, 36]"))
      << error(layer, GgmlType::kQ8_0);
  layer[0].dtype = "I8";
  EXPECT_TRUE(absl::StrContains(error(layer), "expected dtype U8, found I8"));
  layer = Blocks(GgmlType::kQ4_0, 64);
  layer.erase(layer.begin());
  EXPECT_FALSE(error(layer).empty());
  layer = Blocks(GgmlType::kQ4_0, 64);
  layer[0].bytes[36 + 18 + 1] = 0x7C;  // d of the last block: infinity
  layer[0].bytes[36 + 18] = 0;
  const auto checkpoint = OpenLayer(layer);
  const auto matrix =
      ReadQuantizedMatrix(*checkpoint, "m", BlocksConfig(GgmlType::kQ4_0));
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  std::vector<float> values(128);
  const absl::Status status = DequantizeRows(*matrix, 0, 2, values.data());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(),
                                "model.safetensors: tensor 'm.weight_blocks': "
                                "row 1, the block of column 32"))
      << status;
  // Blocks in a folder whose configuration speaks of integers.
  EXPECT_FALSE(ReadQuantizedMatrix(*checkpoint, "m", Int4Groups()).ok());
}

TEST(QuantizedTensor, ReadsCodebooks) {
  for (const std::string name :
       {"nf4", "nf4_g24", "fp8_e4m3", "mxfp4", "mxfp6", "mxint8"}) {
    SCOPED_TRACE(name);
    const auto checkpoint = OpenLayer(CodebookLayer(name, 76));
    EXPECT_TRUE(HasQuantizedWeight(*checkpoint, "m"));
    const auto matrix =
        ReadQuantizedMatrix(*checkpoint, "m", CodebookConfig(name));
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_EQ(matrix->rows, 2);
    EXPECT_EQ(matrix->cols, 76);
    EXPECT_TRUE(matrix->owned.empty());
    const std::vector<float> values = ValuesOf(*matrix);
    const CodebookFormat& format = FormatOf(matrix->codebook->codebook);
    for (size_t i = 0; i < values.size(); ++i) {
      // Codes 1, 2, ... along a row, the second 2 further on; scales of 2.
      const size_t code = 1 + i / 76 * 2 + i % 76 % 12;
      EXPECT_EQ(values[i], 2 * format.values[code]) << i;
    }
    ReleaseRows(*checkpoint, *matrix, 0, 2);
  }
}

TEST(QuantizedTensor, ScaleOfAWholeTensorOfFloats) {
  std::vector<RawTensor> layer = CodebookLayer("fp8_e4m3", 8);
  layer[1] = {"m.weight_scale", "F32", {1}, Bytes<float>({0.5f})};
  WeightQuantization weights;
  weights.bits = 8;
  weights.strategy = QuantStrategy::kTensor;
  weights.codebook = Codebook::kF8E4M3;
  const auto config = QuantizationConfig::Create(
      QuantizedLayout::kCompressedTensors, {{{"Linear"}, weights}}, {});
  const auto checkpoint = OpenLayer(layer);
  const auto matrix = ReadQuantizedMatrix(*checkpoint, "m", *config);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(ValuesOf(*matrix)[8], 0.5f * FormatOf(Codebook::kF8E4M3).values[3]);
}

TEST(QuantizedTensor, BadCodebooks) {
  const auto error = [](const std::string& name,
                        const std::vector<RawTensor>& layer) {
    const auto checkpoint = OpenLayer(layer);
    const auto matrix =
        ReadQuantizedMatrix(*checkpoint, "m", CodebookConfig(name));
    std::vector<float> values(2 * 64);
    const absl::Status status =
        matrix.ok() ? DequantizeRows(*matrix, 0, 2, values.data())
                    : matrix.status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  std::vector<RawTensor> layer = CodebookLayer("mxfp4", 64);
  layer[1].bytes[3] = '\xFF';
  EXPECT_TRUE(absl::StrContains(error("mxfp4", layer),
                                "m.weight_scale': scale 3: expected an "
                                "exponent from 0 to 254, found 255"))
      << error("mxfp4", layer);
  layer[1].bytes[3] = '\xFE';  // 2^127
  EXPECT_TRUE(
      absl::StrContains(error("mxfp4", layer),
                        "'m.weight_packed': row 1, column 33: expected a "
                        "finite value, found -inf, code 12"))
      << error("mxfp4", layer);
  layer = CodebookLayer("mxfp4", 64);
  layer[1].dtype = "I8";
  EXPECT_TRUE(
      absl::StrContains(error("mxfp4", layer), "expected dtype U8, found I8"));
  layer = CodebookLayer("mxfp4", 64);
  layer[0].dtype = "I32";
  layer[0].shape = {2, 8};
  EXPECT_TRUE(
      absl::StrContains(error("mxfp4", layer), "expected dtype U8, found I32"));
  layer = CodebookLayer("mxfp4", 64);
  layer[0].shape = {64};
  EXPECT_TRUE(absl::StrContains(error("mxfp4", layer), "found shape [64]"));
  layer = CodebookLayer("mxfp4", 64);
  layer[1].shape = {1, 4};
  EXPECT_TRUE(absl::StrContains(error("mxfp4", layer),
                                "expected shape [2, 2], found [1, 4]"));
  layer = CodebookLayer("mxfp6", 64);
  layer[0].shape = {3, 8};
  EXPECT_TRUE(absl::StrContains(error("mxfp6", layer),
                                "expected shape [2, 12], found [3, 8]"))
      << error("mxfp6", layer);
  layer = CodebookLayer("fp8_e4m3", 64);
  layer[0].bytes[64 + 5] = '\x7F';
  EXPECT_TRUE(
      absl::StrContains(error("fp8_e4m3", layer),
                        "'m.weight': row 1, column 5: expected a finite "
                        "value, found nan, code 127"))
      << error("fp8_e4m3", layer);
  layer = CodebookLayer("nf4", 64);
  layer[1].bytes = Bytes<uint16_t>({0x4000, kNan});
  EXPECT_TRUE(absl::StrContains(error("nf4", layer), "scale 1 is nan"));
  // A folder whose configuration speaks of integers.
  EXPECT_FALSE(ReadQuantizedMatrix(*OpenLayer(CodebookLayer("mxfp4", 8)), "m",
                                   Int4Groups())
                   .ok());
}

}  // namespace
}  // namespace qeff
