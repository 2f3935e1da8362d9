// SPDX-License-Identifier: Apache-2.0

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/io/quantized_layer_testutil.h"
#include "qeff/io/quantized_tensor.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A layer "m", written from the definitions: bit by bit.
struct Layer {
  int bits = 4;
  int64_t in = 64;
  int64_t out = 32;
  int64_t group = 16;
  bool symmetric = false;
  QuantizedLayout layout = QuantizedLayout::kGptq;
  std::vector<int> codes;         // [in, out]
  std::vector<int> zeros;         // [groups, out]
  std::vector<float> scales;      // [groups, out]
  std::vector<int32_t> group_of;  // [in]

  int64_t groups() const { return (in + group - 1) / group; }

  Layer& Fill() {
    Random random(5);
    const uint64_t range = uint64_t{1} << bits;
    codes.resize(static_cast<size_t>(in * out));
    for (int& code : codes) code = static_cast<int>(random.NextBelow(range));
    zeros.resize(static_cast<size_t>(groups() * out));
    for (int& zero : zeros) {
      zero = symmetric ? 1 << (bits - 1)
                       : static_cast<int>(random.NextBelow(range));
    }
    if (!symmetric) zeros[0] = 0;  // which v1 stores as all ones
    for (size_t i = 0; i < zeros.size(); ++i) {
      scales.push_back(F16ToFloat(
          FloatToF16(0.01f * (1 + static_cast<float>(random.NextBelow(100))))));
    }
    for (int64_t i = 0; i < in; ++i) {
      group_of.push_back(static_cast<int32_t>(i / group));
    }
    return *this;
  }

  // (code - zero) * scale, [out, in].
  std::vector<float> Values() const {
    std::vector<float> values;
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        const int64_t g = group_of[static_cast<size_t>(i)];
        const size_t param = static_cast<size_t>(g * out + o);
        values.push_back(
            static_cast<float>(codes[static_cast<size_t>(i * out + o)] -
                               zeros[param]) *
            scales[param]);
      }
    }
    return values;
  }

  // Where output or input `index` begins in a sequence of words.
  int64_t FirstBit(int64_t index) const {
    if (layout != QuantizedLayout::kAwq) return index * bits;
    constexpr int64_t kNibble[] = {0, 4, 1, 5, 2, 6, 3, 7};
    return index / 8 * 32 + 4 * kNibble[index % 8];
  }

  std::vector<RawTensor> Tensors() const {
    const bool awq = layout == QuantizedLayout::kAwq;
    const int64_t words = (awq ? out : in) * bits / 32;
    const int64_t zero_words = out * bits / 32;
    std::vector<uint32_t> qweight(
        static_cast<size_t>(words * (awq ? in : out)));
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t o = 0; o < out; ++o) {
        for (int b = 0; b < bits; ++b) {
          const int64_t bit = FirstBit(awq ? o : i) + b;
          const int64_t word = awq ? i * words + bit / 32 : bit / 32 * out + o;
          const uint32_t value =
              (static_cast<uint32_t>(codes[static_cast<size_t>(i * out + o)]) >>
               b) &
              1;
          qweight[static_cast<size_t>(word)] |= value << bit % 32;
        }
      }
    }
    std::vector<uint32_t> qzeros(static_cast<size_t>(groups() * zero_words));
    for (int64_t g = 0; g < groups(); ++g) {
      for (int64_t o = 0; o < out; ++o) {
        int zero = zeros[static_cast<size_t>(g * out + o)];
        if (layout == QuantizedLayout::kGptq) {
          zero = (zero - 1) & ((1 << bits) - 1);
        }
        for (int b = 0; b < bits; ++b) {
          const int64_t bit = FirstBit(o) + b;
          qzeros[static_cast<size_t>(g * zero_words + bit / 32)] |=
              (static_cast<uint32_t>(zero) >> b & 1) << bit % 32;
        }
      }
    }
    std::vector<uint16_t> f16;
    for (const float scale : scales) f16.push_back(FloatToF16(scale));
    std::vector<RawTensor> tensors = {
        {"m.qweight",
         "I32",
         {awq ? in : words, awq ? words : out},
         Bytes(qweight)},
        {"m.qzeros", "I32", {groups(), zero_words}, Bytes(qzeros)},
        {"m.scales", "F16", {groups(), out}, Bytes(f16)}};
    if (!awq) tensors.push_back({"m.g_idx", "I32", {in}, Bytes(group_of)});
    return tensors;
  }

  QuantizationConfig Config() const {
    WeightQuantization weights;
    weights.bits = bits;
    weights.symmetric = symmetric;
    weights.strategy =
        group == in ? QuantStrategy::kChannel : QuantStrategy::kGroup;
    weights.group_size = group == in ? 0 : group;
    return QuantizationConfig::Create(layout, {{{"Linear"}, weights}}, {})
        .value();
  }
};

void ExpectReads(const Layer& layer, const std::vector<RawTensor>& tensors) {
  const auto checkpoint = OpenLayer(tensors);
  EXPECT_TRUE(HasQuantizedWeight(*checkpoint, "m"));
  const auto matrix = ReadQuantizedMatrix(*checkpoint, "m", layer.Config());
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ(matrix->rows, layer.out);
  EXPECT_EQ(matrix->cols, layer.in);
  EXPECT_EQ(matrix->groups, layer.groups());
  EXPECT_EQ(matrix->symmetric(), layer.symmetric);
  const std::vector<float> expected = layer.Values();
  EXPECT_EQ(ValuesOf(*matrix), expected);
  const auto checked = CheckQuantizedMatrix(*checkpoint, "m", layer.Config());
  ASSERT_TRUE(checked.ok()) << checked.status();
  EXPECT_EQ(checked->rows, layer.out);
  EXPECT_TRUE(checked->codes.packed.empty());
  // Rows that are not whole words of zero points.
  std::vector<float> part(static_cast<size_t>(5 * layer.in));
  ASSERT_TRUE(
      ReadQuantizedRows(*checkpoint, "m", layer.Config(), 3, 5, part.data())
          .ok());
  EXPECT_EQ(part, std::vector<float>(expected.begin() + 3 * layer.in,
                                     expected.begin() + 8 * layer.in));
  EXPECT_EQ(ReadQuantizedRows(*checkpoint, "m", layer.Config(), layer.out - 1,
                              2, part.data())
                .code(),
            absl::StatusCode::kOutOfRange);
}

TEST(GptqAwqTensor, ReadsGptqOfAllWidths) {
  for (const auto layout : {QuantizedLayout::kGptq, QuantizedLayout::kGptqV2}) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const int64_t group : {16, 24, 64}) {  // 24 ends in a shorter one
        for (const bool symmetric : {false, true}) {
          SCOPED_TRACE(testing::Message() << bits << " bits, group " << group);
          Layer layer;
          layer.bits = bits;
          layer.group = group;
          layer.symmetric = symmetric;
          layer.layout = layout;
          layer.Fill();
          ExpectReads(layer, layer.Tensors());
        }
      }
    }
  }
}

TEST(GptqAwqTensor, ReadsAwq) {
  for (const int64_t group : {16, 64}) {
    Layer layer;
    layer.layout = QuantizedLayout::kAwq;
    layer.group = group;
    layer.Fill();
    ExpectReads(layer, layer.Tensors());
  }
}

TEST(GptqAwqTensor, ZeroPointsOfEightAreSymmetricCodes) {
  Layer layer;
  layer.layout = QuantizedLayout::kAwq;
  layer.symmetric = true;
  layer.Fill();
  const auto tensors = layer.Tensors();
  layer.symmetric = false;  // what the config says
  const auto checkpoint = OpenLayer(tensors);
  const auto matrix = ReadQuantizedMatrix(*checkpoint, "m", layer.Config());
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_TRUE(matrix->symmetric());
  EXPECT_EQ(ValuesOf(*matrix), layer.Values());
}

// A symmetric model has zero points of 8; files that declare "gptq" hold 7,
// but some 8.
TEST(GptqAwqTensor, TheValueSaysWhichVersionASymmetricFileIs) {
  for (const auto stored : {QuantizedLayout::kGptq, QuantizedLayout::kGptqV2}) {
    for (const auto declared :
         {QuantizedLayout::kGptq, QuantizedLayout::kGptqV2}) {
      Layer layer;
      layer.symmetric = true;
      layer.layout = stored;
      layer.Fill();
      const auto tensors = layer.Tensors();
      const uint32_t word = stored == QuantizedLayout::kGptq
                                ? 0x77777777u
                                : 0x88888888u;  // 2004318071, -2004318072
      EXPECT_EQ(tensors[1].bytes.substr(0, 4), Bytes<uint32_t>({word}));
      layer.layout = declared;
      ExpectReads(layer, tensors);
    }
  }
}

TEST(GptqAwqTensor, GoldenZeroPoints) {
  Layer layer;
  layer.in = layer.group = 8;
  layer.out = 8;
  layer.Fill();
  for (int i = 0; i < 8; ++i) layer.zeros[static_cast<size_t>(i)] = i + 1;
  const auto tensors = layer.Tensors();
  EXPECT_EQ(tensors[1].bytes, Bytes<int32_t>({1985229328}));
  ExpectReads(layer, tensors);
}

TEST(GptqAwqTensor, ReadsActivationOrder) {
  for (const bool symmetric : {false, true}) {
    for (const int bits : {3, 4}) {
      Layer layer;
      layer.bits = bits;
      layer.symmetric = symmetric;
      layer.Fill();
      for (int64_t i = 0; i < layer.in; ++i) {
        layer.group_of[static_cast<size_t>(i)] =
            static_cast<int32_t>(i * 7 % layer.groups());
      }
      ExpectReads(layer, layer.Tensors());
      const auto checkpoint = OpenLayer(layer.Tensors());
      const auto matrix = ReadQuantizedMatrix(*checkpoint, "m", layer.Config());
      ASSERT_TRUE(matrix.ok());
      EXPECT_EQ(*matrix->column_groups, layer.group_of);
    }
  }
}

TEST(GptqAwqTensor, GroupIndexIsOptional) {
  Layer layer;
  auto tensors = layer.Fill().Tensors();
  tensors.pop_back();
  ExpectReads(layer, tensors);
}

TEST(GptqAwqTensor, RefusesBrokenTensors) {
  Layer gptq;
  gptq.Fill();
  Layer symmetric;
  symmetric.symmetric = true;
  symmetric.Fill();
  symmetric.zeros[3] = 5;
  Layer awq;
  awq.layout = QuantizedLayout::kAwq;
  awq.Fill();
  Layer three;
  three.bits = 3;
  three.Fill();
  struct Case {
    const Layer* layer;
    size_t index;  // of the tensor that `tensor` replaces
    RawTensor tensor;
    std::vector<const char*> message;
  };
  const auto zeros = [](size_t size) { return std::string(size, '\0'); };
  std::vector<int32_t> groups = gptq.group_of;
  groups[5] = 4;
  std::vector<uint16_t> scales(4 * 32, 0x3C00);
  scales[33] = 0x7C00;
  for (const Case& c : std::vector<Case>{
           {&gptq,
            0,
            {"m.qweight", "F32", {8, 32}, zeros(1024)},
            {"I32", "F32"}},
           {&gptq, 0, {"m.qweight", "I32", {256}, zeros(1024)}, {"[256]"}},
           {&gptq, 0, {"m.qweight", "I32", {0, 32}, ""}, {"[0, 32]"}},
           {&gptq,
            0,
            {"m.qweight", "I32", {64, 4}, zeros(1024)},
            {"multiple of 8 outputs", "found 4"}},
           {&gptq,
            0,
            {"m.qweight", "I32", {4, 64}, zeros(1024)},
            {"m.scales", "[2, 64]", "[4, 32]"}},
           {&three,
            0,
            {"m.qweight", "I32", {4, 32}, zeros(512)},
            {"multiple of 3", "[4, 32]"}},
           {&gptq,
            1,
            {"m.qzeros", "I32", {4, 5}, zeros(80)},
            {"m.qzeros", "[4, 4]", "[4, 5]"}},
           {&gptq, 1, {"m.qzeros", "I64", {4, 4}, zeros(128)}, {"I32", "I64"}},
           {&symmetric,
            1,
            symmetric.Tensors()[1],
            {"m.qzeros", "zero point 3", "symmetric", "found 4"}},
           {&gptq,
            2,
            {"m.scales", "I16", {4, 32}, zeros(256)},
            {"F16, BF16 or F32"}},
           {&gptq,
            2,
            {"m.scales", "F16", {4, 32}, Bytes(scales)},
            {"m.scales", "scale 33 is inf"}},
           {&gptq,
            3,
            {"m.g_idx", "I32", {64}, Bytes(groups)},
            {"m.g_idx", "column 5", "0 to 3", "found 4"}},
           {&gptq, 3, {"m.g_idx", "I32", {63}, zeros(252)}, {"[64]", "[63]"}},
           {&awq,
            0,
            {"m.qweight", "I32", {72, 4}, zeros(1152)},
            {"72 inputs", "groups of 16"}},
       }) {
    auto tensors = c.layer->Tensors();
    tensors[c.index] = c.tensor;
    const auto checkpoint = OpenLayer(tensors);
    const auto read = ReadQuantizedMatrix(*checkpoint, "m", c.layer->Config());
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    for (const char* part : c.message) {
      EXPECT_THAT(read.status().message(), HasSubstr(part));
    }
    EXPECT_THAT(read.status().message(), HasSubstr("model.safetensors"));
    EXPECT_EQ(
        CheckQuantizedMatrix(*checkpoint, "m", c.layer->Config()).status(),
        read.status());
  }
  for (size_t i = 0; i < 3; ++i) {
    auto tensors = gptq.Tensors();
    const std::string name = tensors[i].name;
    tensors.erase(tensors.begin() + static_cast<ptrdiff_t>(i));
    const auto read =
        ReadQuantizedMatrix(*OpenLayer(tensors), "m", gptq.Config());
    EXPECT_EQ(read.status().code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(read.status().message(), HasSubstr(name));
  }
}

// Early versions of the tools wrote a file of its own.
TEST(GptqAwqTensor, ConfigMayBeAFileOfItsOwn) {
  const auto folder = OpenLayer(Layer().Fill().Tensors())->folder();
  WriteTestFile(folder + "/quantize_config.json",
                R"({"bits": 4, "group_size": 16, "sym": false,
                    "desc_act": false, "damp_percent": 0.1})");
  WriteTestFile(folder + "/vocab.json", "{}");
  auto checkpoint = Checkpoint::Open(folder);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->other_files(), ElementsAre("vocab.json"));
  auto config = ParseQuantizationConfig((*checkpoint)->config(), "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ((*config)->layout(), QuantizedLayout::kGptq);
  // That of config.json counts.
  WriteTestFile(folder + "/config.json",
                R"({"quantization_config": {"quant_method": "awq", "bits": 4,
                    "group_size": 16}})");
  checkpoint = Checkpoint::Open(folder);
  config = ParseQuantizationConfig((*checkpoint)->config(), "config.json");
  EXPECT_EQ((*config)->layout(), QuantizedLayout::kAwq);
  WriteTestFile(folder + "/config.json", "{}");
  WriteTestFile(folder + "/quantize_config.json", "[]");
  checkpoint = Checkpoint::Open(folder);
  EXPECT_THAT(checkpoint.status().message(),
              HasSubstr("quantize_config.json: expected a JSON object"));
}

}  // namespace
}  // namespace qeff
