// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/format_holds.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/export/stored_types.h"
#include "qeff/export/write_quantized_folder.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr QuantizedLayout kLayouts[] = {
    QuantizedLayout::kCompressedTensors, QuantizedLayout::kGptq,
    QuantizedLayout::kGptqV2, QuantizedLayout::kAwq};

QuantScheme Scheme(const std::string& name, bool symmetric = true) {
  QuantScheme scheme = *ParseQuantScheme(name);
  scheme.symmetric = symmetric;
  return scheme;
}

std::string Why(const std::string& format, const std::string& scheme,
                bool symmetric = true) {
  return WhyFormatCannotHold(format, {Scheme(scheme, symmetric)});
}

// What is refused here is what export refuses, of a model with whole blocks and
// words in all rows.
TEST(FormatHoldsTest, SaysWhatExportDoes) {
  const TestModel model =
      MakeTestModel("llama", R"({"hidden_size": 256, "head_dim": 32,
          "intermediate_size": 256, "num_attention_heads": 8,
          "num_key_value_heads": 8})");
  for (const bool symmetric : {true, false}) {
    for (const char* name :
         {"int2_g32", "int3_g64", "int3",   "int4_g32", "int4_g128", "int4_g16",
          "int4",     "int5_g32", "int6",   "int7_g32", "int8",      "q4_0",
          "q8_0",     "q4_k",     "q5_k",   "q6_k",     "nf4",       "fp8_e4m3",
          "mxfp4",    "mxfp6",    "mxint8", "w8a8"}) {
      SCOPED_TRACE(testing::Message() << name << " " << symmetric);
      QuantizeOptions options;
      options.scheme = Scheme(name, symmetric);
      if (!symmetric && !(options.scheme.integers() &&
                          options.scheme.inputs == InputCodes::kNone))
        continue;
      const std::string folder = QuantizedFolder(model, options, DType::kF16);
      const auto loaded = LoadFolder(folder);
      EXPECT_EQ(Why("gguf", name, symmetric).empty(),
                FindStoredTypes(*loaded).ok());
      for (const QuantizedLayout layout : kLayouts) {
        const std::string format(QuantizedLayoutName(layout));
        EXPECT_EQ(
            Why(format, name, symmetric).empty(),
            WriteQuantizedFolder(*loaded, layout, MakeTestFolder() + "/out")
                .ok())
            << format;
      }
    }
  }
}

TEST(FormatHoldsTest, SeveralSchemes) {
  const auto why = [](const char* format, const char* a, const char* b) {
    return WhyFormatCannotHold(format, {Scheme(a), Scheme(b)});
  };
  EXPECT_THAT(why("gptq", "int4_g32", "int3_g32"),
              HasSubstr("both int4_g32 and int3_g32"));
  EXPECT_THAT(why("awq", "int4_g32", "int4_g128"), HasSubstr("one group size"));
  EXPECT_THAT(why("compressed-tensors", "int4_g32", "int3_g32"),
              HasSubstr("cannot hold int3_g32"));
  EXPECT_THAT(why("compressed-tensors", "int4_g32", "int8"), IsEmpty());
  EXPECT_THAT(why("gguf", "int4_g32", "int5_g64"), IsEmpty());
  EXPECT_THAT(why("onnx", "nf4", "int5_g64"), IsEmpty());
  EXPECT_THAT(Why("sparse-24-bitmask", "int8"), HasSubstr("takes floats"));
}

}  // namespace
}  // namespace qeff
