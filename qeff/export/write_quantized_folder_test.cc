// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/write_quantized_folder.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/export_testutil.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/host_forward.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr QuantizedLayout kLayouts[] = {
    QuantizedLayout::kCompressedTensors, QuantizedLayout::kGptq,
    QuantizedLayout::kGptqV2, QuantizedLayout::kAwq};

QuantizeOptions OptionsFor(const std::string& scheme, bool symmetric = true) {
  QuantizeOptions options;
  options.scheme = *ParseQuantScheme(scheme);
  options.scheme.symmetric = symmetric;
  return options;
}

absl::StatusOr<QuantizedFolderReport> TryExport(const std::string& folder,
                                                QuantizedLayout layout,
                                                const std::string& output) {
  return WriteQuantizedFolder(*LoadFolder(folder), layout, output);
}

std::string Export(const std::string& folder, QuantizedLayout layout) {
  const std::string output = MakeTestFolder() + "/exported";
  const auto report = TryExport(folder, layout, output);
  EXPECT_TRUE(report.ok()) << report.status();
  return output;
}

// The message of a refusal, which leaves nothing behind.
std::string Refusal(const std::string& folder, QuantizedLayout layout) {
  const std::string parent = MakeTestFolder();
  const auto report = TryExport(folder, layout, parent + "/exported");
  EXPECT_EQ(report.status().code(), absl::StatusCode::kInvalidArgument)
      << report.status();
  EXPECT_THAT(ListTestFolder(parent), IsEmpty());
  return std::string(report.status().message());
}

// What the layouts hold of a model, as qeff/export/README.md has it.
struct Held {
  const char* scheme;
  bool symmetric;
  std::vector<QuantizedLayout> layouts;
};

std::vector<Held> Table() {
  const auto ct = QuantizedLayout::kCompressedTensors;
  const auto v1 = QuantizedLayout::kGptq, v2 = QuantizedLayout::kGptqV2;
  const auto awq = QuantizedLayout::kAwq;
  return {{"int2_g32", true, {ct, v1, v2}},
          {"int2_g32", false, {ct, v1, v2}},
          {"int3_g32", true, {v1, v2}},
          {"int3_g32", false, {v1, v2}},
          {"int4_g32", true, {ct, v1, v2, awq}},
          {"int4_g32", false, {ct, v1, v2, awq}},
          {"int4_g64", true, {v1, v2}},  // ends rows of 96 with 32
          {"int4", true, {ct, v1, v2, awq}},
          {"int4", false, {ct, v1, v2, awq}},
          {"int5_g32", true, {}},
          {"int6_g32", true, {}},
          {"int7_g32", true, {}},
          {"int8_g32", true, {ct, v1, v2}},
          {"int8_g32", false, {ct, v1, v2}},
          {"int8", true, {ct, v1, v2}},
          {"q4_0", true, {ct, v1, v2, awq}},
          {"q8_0", true, {ct, v1, v2}},
          {"mxint8", true, {ct, v1, v2}},
          {"fp8_e4m3", true, {ct}},
          {"mxfp4", true, {ct}},
          {"mxfp6", true, {}},
          {"nf4", true, {}},
          {"w8a8", true, {ct}}};
}

bool Holds(const Held& held, QuantizedLayout layout) {
  return std::find(held.layouts.begin(), held.layouts.end(), layout) !=
         held.layouts.end();
}

TEST(WriteQuantizedFolder, EveryCellOfTheTable) {
  for (const Held& held : Table()) {
    SCOPED_TRACE(testing::Message() << held.scheme << " " << held.symmetric);
    const std::string source =
        QuantizedFolder(WideLlama(), OptionsFor(held.scheme, held.symmetric));
    const auto expected = LinearValues(*LoadFolder(source));
    for (const QuantizedLayout layout : kLayouts) {
      SCOPED_TRACE(QuantizedLayoutName(layout));
      if (!Holds(held, layout)) {
        EXPECT_THAT(Refusal(source, layout),
                    HasSubstr("layers.0.self_attn.q_proj"));
        continue;
      }
      const std::string exported = Export(source, layout);
      const auto model = LoadFolder(exported);
      EXPECT_EQ(model->quantization()->layout(), layout);
      EXPECT_EQ(LinearValues(*model), expected);
    }
  }
}

// With scales of F16, as GPTQ and AWQ store them, even the files are the same
// whatever layout they come from, and after the way back. Each export syncs a
// few files, so not all of the table.
TEST(WriteQuantizedFolder, EveryPairGivesTheSameFiles) {
  for (const Held& held : Table()) {
    const std::string scheme = held.scheme;
    if (scheme != "int4_g32" && (held.symmetric || scheme == "int4")) continue;
    SCOPED_TRACE(testing::Message() << held.scheme << " " << held.symmetric);
    const std::string source = QuantizedFolder(
        WideLlama(), OptionsFor(held.scheme, held.symmetric), DType::kF16);
    std::vector<std::string> folders;
    for (const QuantizedLayout layout : held.layouts) {
      folders.push_back(Export(source, layout));
    }
    for (size_t i = 0; i < folders.size(); ++i) {
      for (const std::string& from : folders) {
        SCOPED_TRACE(from + " to " + folders[i]);
        const std::string again = Export(from, held.layouts[i]);
        for (const char* file : {"/model.safetensors", "/config.json"}) {
          EXPECT_TRUE(ReadTestFile(again + file) ==
                      ReadTestFile(folders[i] + file))
              << file;
        }
      }
    }
  }
}

// Which families there are, and that biases and transposed matrices survive.
TEST(WriteQuantizedFolder, EveryFamily) {
  for (const std::string& family : SupportedModelTypes()) {
    SCOPED_TRACE(family);
    // Heads for whole words of k and v.
    const bool one_kind_of_head = family == "gpt2" || family == "mpt";
    const std::string source = QuantizedFolder(
        MakeTestModel(
            family, one_kind_of_head ? "{}" : R"({"num_key_value_heads": 6})"),
        OptionsFor("int4_g8"));
    const auto original = LoadFolder(source);
    const auto expected = LinearValues(*original);
    for (const QuantizedLayout layout : kLayouts) {
      SCOPED_TRACE(QuantizedLayoutName(layout));
      const auto linears = original->map().blocks[0].linears;
      const bool transposed =
          std::any_of(linears.begin(), linears.end(),
                      [](const LinearModule& m) { return m.transposed; });
      if (layout == QuantizedLayout::kCompressedTensors && transposed) {
        EXPECT_THAT(Refusal(source, layout), HasSubstr("Conv1D"));
        continue;
      }
      EXPECT_EQ(LinearValues(*LoadFolder(Export(source, layout))), expected);
    }
  }
}

TEST(WriteQuantizedFolder, LogitsAreTheSame) {
  const std::string source =
      QuantizedFolder(WideLlama(), OptionsFor("int4_g32", false));
  for (const QuantizedLayout layout : kLayouts) {
    EXPECT_EQ(HostLogits(Export(source, layout)), HostLogits(source));
  }
}

TEST(WriteQuantizedFolder, ConfigOfGptq) {
  const auto config = [](const std::string& folder) {
    return LoadFolder(folder)->checkpoint().config()["quantization_config"];
  };
  QuantizeOptions options = OptionsFor("int4_g32");
  std::string source = QuantizedFolder(WideLlama(), options);
  Json json = config(Export(source, QuantizedLayout::kGptq));
  EXPECT_EQ(json["quant_method"], "gptq");
  EXPECT_EQ(json["checkpoint_format"], "gptq");
  EXPECT_EQ(json["bits"], 4);
  EXPECT_EQ(json["group_size"], 32);
  EXPECT_EQ(json["sym"], true);
  EXPECT_EQ(json["desc_act"], false);
  EXPECT_EQ(json["lm_head"], false);
  EXPECT_EQ(
      config(Export(source, QuantizedLayout::kGptqV2))["checkpoint_format"],
      "gptq_v2");
  json = config(Export(source, QuantizedLayout::kAwq));
  EXPECT_EQ(json["quant_method"], "awq");
  EXPECT_EQ(json["version"], "gemm");
  EXPECT_EQ(json["zero_point"], true);
  EXPECT_EQ(json["modules_to_not_convert"], Json::parse(R"(["lm_head"])"));
  // A layer that is kept; it is read by what tensors there are.
  options.ignore = "layers.0.mlp.down_proj";
  options.scheme.symmetric = false;
  source = QuantizedFolder(WideLlama(), options);
  const std::string exported = Export(source, QuantizedLayout::kGptq);
  json = config(exported);
  EXPECT_EQ(json["sym"], false);
  EXPECT_EQ(json["dynamic"].size(), 1);
  EXPECT_EQ(LinearValues(*LoadFolder(exported)),
            LinearValues(*LoadFolder(source)));
}

TEST(WriteQuantizedFolder, MixedSchemes) {
  QuantizeOptions options = OptionsFor("int4_g32");
  options.modules["model.layers.1.mlp.up_proj"] = *ParseQuantScheme("int8");
  const std::string source = QuantizedFolder(WideLlama(), options);
  EXPECT_THAT(
      Refusal(source, QuantizedLayout::kGptq),
      testing::AllOf(HasSubstr("layers.0.self_attn.q_proj has 4 bits, groups "
                               "of 32"),
                     HasSubstr("layers.1.mlp.up_proj 8 bits, a scale a row"),
                     HasSubstr("compressed-tensors can hold both")));
  const auto exported = Export(source, QuantizedLayout::kCompressedTensors);
  EXPECT_EQ(LinearValues(*LoadFolder(exported)),
            LinearValues(*LoadFolder(source)));
}

// Not so of an lm_head, which has its own bits in many files.
TEST(WriteQuantizedFolder, LmHeadBecomesFloatsWhereItsCodesDoNotFit) {
  for (const std::string scheme : {"int8", "q8_0", "q6_k", "nf4"}) {
    QuantizeOptions options = OptionsFor("int4_g32");
    options.lm_head = *ParseQuantScheme(scheme);
    const std::string source = QuantizedFolder(
        MakeTestModel("llama", R"({"hidden_size": 256, "head_dim": 32,
            "intermediate_size": 64, "num_attention_heads": 8,
            "num_key_value_heads": 4})"),
        options);
    const auto expected = LinearValues(*LoadFolder(source));
    for (const QuantizedLayout layout : kLayouts) {
      SCOPED_TRACE(testing::Message()
                   << scheme << " " << QuantizedLayoutName(layout));
      const std::string output = MakeTestFolder() + "/exported";
      const auto report = TryExport(source, layout, output);
      ASSERT_TRUE(report.ok()) << report.status();
      const auto model = LoadFolder(output);
      EXPECT_EQ(LinearValues(*model), expected);
      const bool codes = layout == QuantizedLayout::kCompressedTensors &&
                         (scheme == "int8" || scheme == "q8_0");
      EXPECT_EQ(report->layers, 14 + codes);
      EXPECT_EQ(report->lm_head_floats.empty(), codes);
      EXPECT_EQ(model->checkpoint().Has("lm_head.weight"), !codes);
    }
  }
}

TEST(WriteQuantizedFolder, RefusalsNameLayerAndOtherFormats) {
  // 24 and 40 are no multiples of 16.
  std::string source =
      QuantizedFolder(MakeTestModel("llama"), OptionsFor("int2_g8"));
  EXPECT_THAT(Refusal(source, QuantizedLayout::kGptq),
              testing::AllOf(HasSubstr("24 inputs are not a multiple of 16"),
                             HasSubstr("as compressed-tensors")));
  source = QuantizedFolder(WideLlama(), OptionsFor("int3_g32"));
  EXPECT_THAT(Refusal(source, QuantizedLayout::kAwq),
              testing::AllOf(HasSubstr("it has 3 bits"),
                             HasSubstr("written as gptq, gptq_v2")));
  source = QuantizedFolder(WideLlama(), OptionsFor("nf4"));
  EXPECT_THAT(Refusal(source, QuantizedLayout::kGptq),
              testing::AllOf(HasSubstr("nf4, not integers"),
                             HasSubstr("nor can another folder; onnx holds")));
  // A scale that BF16 has and F16 has not.
  source = QuantizedFolder(WideLlama(), OptionsFor("int4"));
  const std::string scale = "model.layers.0.self_attn.q_proj.weight_scale";
  std::string bytes(96 * 2, '\0');
  for (size_t i = 1; i < bytes.size(); i += 2) bytes[i] = 0x3F;
  bytes[2 * 5 + 1] = 0x30;
  EXPECT_THAT(
      Refusal(FolderWith(source, {{scale, bytes}}), QuantizedLayout::kAwq),
      testing::AllOf(HasSubstr("the scale of row 5, group 0, is 4.65"),
                     HasSubstr("as compressed-tensors")));
  const auto plain = OpenTestModel(WideLlama());
  EXPECT_THAT(Refusal(plain->folder(), QuantizedLayout::kGptq),
              HasSubstr("no quantized layers"));
}

TEST(WriteQuantizedFolder, ActivationOrder) {
  const std::string source =
      Export(QuantizedFolder(WideLlama(), OptionsFor("int4_g32", false)),
             QuantizedLayout::kGptq);
  const std::string name = "model.layers.0.mlp.down_proj";
  std::vector<int32_t> groups;
  for (int32_t c = 0; c < 64; ++c) groups.push_back(c % 2);
  std::string bytes(groups.size() * 4, '\0');
  std::memcpy(&bytes[0], groups.data(), bytes.size());
  const std::string ordered = FolderWith(source, {{name + ".g_idx", bytes}});
  const auto expected = LinearValues(*LoadFolder(ordered));
  EXPECT_NE(expected, LinearValues(*LoadFolder(source)));
  const std::string v2 = Export(ordered, QuantizedLayout::kGptqV2);
  EXPECT_EQ(LinearValues(*LoadFolder(v2)), expected);
  EXPECT_EQ(
      LoadFolder(v2)->checkpoint().config()["quantization_config"]["desc_act"],
      true);
  EXPECT_THAT(
      Refusal(ordered, QuantizedLayout::kAwq),
      testing::AllOf(HasSubstr(name), HasSubstr("activation order"),
                     HasSubstr("as compressed-tensors, gptq, gptq_v2")));
  const std::string ct = Export(v2, QuantizedLayout::kCompressedTensors);
  EXPECT_EQ(LinearValues(*LoadFolder(ct)), expected);
  const Json config = LoadFolder(ct)->checkpoint().config();
  const Json& config_groups = config["quantization_config"]["config_groups"];
  EXPECT_EQ(config_groups["group_0"]["weights"]["actorder"], nullptr);
  EXPECT_EQ(config_groups["group_1"]["weights"]["actorder"], "group");
  EXPECT_EQ(config_groups["group_1"]["targets"], Json::array({name}));
  EXPECT_TRUE(ReadTestFile(Export(ct, QuantizedLayout::kGptqV2) +
                           "/model.safetensors") ==
              ReadTestFile(v2 + "/model.safetensors"));
  // Groups of other sizes.
  groups[0] = 1;
  std::memcpy(&bytes[0], groups.data(), bytes.size());
  EXPECT_THAT(Refusal(FolderWith(source, {{name + ".g_idx", bytes}}),
                      QuantizedLayout::kCompressedTensors),
              testing::AllOf(HasSubstr("31 of them, not 32, in group 0"),
                             HasSubstr("as gptq, gptq_v2")));
}

// AutoGPTQ gave every layer a bias.
TEST(WriteQuantizedFolder, BiasesOfZerosThatTheModelDoesNotHave) {
  const std::string source =
      Export(QuantizedFolder(WideLlama(), OptionsFor("int4_g32")),
             QuantizedLayout::kGptq);
  const std::string bias = "model.layers.0.mlp.down_proj.bias";
  const std::string zeros =
      FolderWith(source, {{bias, std::string(192, '\0')}});
  EXPECT_EQ(LinearValues(*LoadFolder(zeros)),
            LinearValues(*LoadFolder(source)));
  const std::string exported =
      Export(zeros, QuantizedLayout::kCompressedTensors);
  EXPECT_FALSE(LoadFolder(exported)->checkpoint().Has(bias));
  std::string some(192, '\0');
  some[7] = 1;
  const auto refused =
      Transformer::Load(*Checkpoint::Open(FolderWith(source, {{bias, some}})));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.status().message(),
              testing::AllOf(HasSubstr(bias), HasSubstr("index 3")));
}

TEST(WriteQuantizedFolder, KeepsFilesAndReports) {
  const std::string source =
      QuantizedFolder(WideLlama(), OptionsFor("int4_g32"));
  WriteTestFile(source + "/tokenizer.json", "{\"a\": 1}");
  const std::string output = MakeTestFolder() + "/exported";
  const auto report = TryExport(source, QuantizedLayout::kGptq, output);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->layers, 14);
  EXPECT_EQ(report->weight_bytes,
            LoadFolder(output)->checkpoint().weight_bytes());
  EXPECT_THAT(
      ListTestFolder(output),
      ElementsAre("config.json", "model.safetensors", "tokenizer.json"));
  EXPECT_EQ(ReadTestFile(output + "/tokenizer.json"), "{\"a\": 1}");
  EXPECT_EQ(TryExport(source, QuantizedLayout::kGptq, output).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(ListTestFolder(output), Not(IsEmpty()));
}

}  // namespace
}  // namespace qeff
