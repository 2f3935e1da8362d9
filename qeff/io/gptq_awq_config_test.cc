// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/gptq_awq_config.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/quantization_config.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

// What GPTQModel writes.
constexpr char kGptq[] = R"({"quant_method": "gptq", "bits": 4,
  "group_size": 128, "desc_act": false, "static_groups": false, "sym": true,
  "true_sequential": true, "damp_percent": 0.01, "lm_head": false,
  "checkpoint_format": "gptq", "pack_dtype": "int32",
  "meta": {"quantizer": ["gptqmodel:1.4.0"]}})";

constexpr char kAwq[] = R"({"quant_method": "awq", "bits": 4,
  "group_size": 64, "zero_point": true, "version": "gemm",
  "modules_to_not_convert": null})";

absl::StatusOr<absl::optional<QuantizationConfig>> Parse(const Json& json) {
  return ParseQuantizationConfig(Json{{"quantization_config", json}},
                                 "DIR/config.json");
}

// `json` with `change` in place of the members of the same names.
Json With(const char* json, const char* change) {
  Json result = Json::parse(json);
  result.update(Json::parse(change));
  return result;
}

WeightQuantization WeightsOf(const Json& json) {
  const auto config = Parse(json);
  EXPECT_TRUE(config.ok()) << config.status();
  return *(*config)->Find("model.layers.0.mlp.up_proj");
}

QuantizedLayout LayoutOf(const Json& json) {
  const auto config = Parse(json);
  EXPECT_TRUE(config.ok()) << config.status();
  return (*config)->layout();
}

TEST(GptqAwqConfig, ReadsGptq) {
  const Json json = Json::parse(kGptq);
  EXPECT_EQ(LayoutOf(json), QuantizedLayout::kGptq);
  const WeightQuantization weights = WeightsOf(json);
  EXPECT_EQ(weights.bits, 4);
  EXPECT_TRUE(weights.symmetric);
  EXPECT_EQ(weights.strategy, QuantStrategy::kGroup);
  EXPECT_EQ(weights.group_size, 128);
}

TEST(GptqAwqConfig, ReadsVersionsOfGptq) {
  EXPECT_EQ(LayoutOf(With(kGptq, R"({"checkpoint_format": "gptq_v2"})")),
            QuantizedLayout::kGptqV2);
  EXPECT_EQ(LayoutOf(Json::parse(
                R"({"quant_method": "gptq", "bits": 3, "group_size": -1})")),
            QuantizedLayout::kGptq);
  const WeightQuantization weights =
      WeightsOf(With(kGptq, R"({"bits": 3, "group_size": -1, "sym": false})"));
  EXPECT_EQ(weights.bits, 3);
  EXPECT_EQ(weights.strategy, QuantStrategy::kChannel);
  EXPECT_FALSE(weights.symmetric);
}

TEST(GptqAwqConfig, ReadsAwq) {
  EXPECT_EQ(LayoutOf(Json::parse(kAwq)), QuantizedLayout::kAwq);
  EXPECT_EQ(WeightsOf(Json::parse(kAwq)).group_size, 64);
  EXPECT_FALSE(WeightsOf(Json::parse(kAwq)).symmetric);
  const WeightQuantization early =
      WeightsOf(Json::parse(R"({"quant_method": "awq", "w_bit": 4,
          "q_group_size": 32, "zero_point": true, "version": "GEMM"})"));
  EXPECT_EQ(early.group_size, 32);
}

TEST(GptqAwqConfig, WritesWhatItReads) {
  for (const Json& json :
       {Json::parse(kGptq), Json::parse(kAwq),
        With(kGptq, R"({"checkpoint_format": "gptq_v2", "sym": false})"),
        With(kAwq, R"({"group_size": -1})")}) {
    const auto config = Parse(json);
    ASSERT_TRUE(config.ok()) << config.status();
    const Json written = (*config)->ToJson();
    for (const auto& item : written.items()) {
      if (item.key() == "modules_to_not_convert") continue;
      if (item.key() == "lm_head") continue;
      EXPECT_EQ(item.value(), json[item.key()]) << item.key();
    }
    const auto again = Parse(written);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ((*again)->ToJson(), written);
  }
}

TEST(GptqAwqConfig, SaysWhichLayersAreKept) {
  GptqAwqConfig config;
  config.layout = QuantizedLayout::kGptq;
  config.weights.group_size = 32;
  Json json = GptqAwqConfigToJson(config, {"lm_head"});
  EXPECT_EQ(json["lm_head"], false);
  EXPECT_FALSE(json.contains("dynamic"));
  json = GptqAwqConfigToJson(config, {"model.layers.0.mlp.up_proj"});
  EXPECT_EQ(json["lm_head"], true);
  EXPECT_EQ(json["dynamic"],
            Json::parse(R"({"-:^model\\.layers\\.0\\.mlp\\.up_proj$": {}})"));
  EXPECT_TRUE(Parse(json).ok()) << Parse(json).status();
  config.layout = QuantizedLayout::kAwq;
  json = GptqAwqConfigToJson(config, {"lm_head"});
  EXPECT_EQ(json["modules_to_not_convert"], Json::parse(R"(["lm_head"])"));
}

TEST(GptqAwqConfig, RefusesWhatItDoesNotRead) {
  struct Case {
    const char* json;
    const char* change;
    absl::StatusCode code;
    const char* message;
  };
  const auto kUnimplemented = absl::StatusCode::kUnimplemented;
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  for (const Case& c :
       {Case{kGptq, R"({"bits": 5})", kUnimplemented, "bits = 5"},
        Case{kGptq, R"({"bits": null})", kInvalid, "bits: expected"},
        Case{kGptq, R"({"bits": "4"})", kInvalid, "bits: expected"},
        Case{kGptq, R"({"group_size": 0})", kInvalid,
             "group_size: expected -1 or a positive integer, found 0"},
        Case{kGptq, R"({"group_size": -2})", kInvalid, "group_size"},
        Case{kGptq, R"({"group_size": null})", kInvalid, "group_size"},
        Case{kGptq, R"({"sym": 1})", kInvalid, "sym"},
        Case{kGptq, R"({"checkpoint_format": "marlin"})", kUnimplemented,
             "checkpoint_format = \"marlin\""},
        Case{kGptq, R"({"is_marlin_format": true})", kUnimplemented,
             "is_marlin_format"},
        Case{kGptq, R"({"pack_dtype": "int16"})", kUnimplemented, "pack_dtype"},
        Case{kGptq, R"({"dynamic": {"+:.*up": {"bits": 8}}})", kUnimplemented,
             "dynamic = "},
        Case{kAwq, R"({"bits": 8})", kUnimplemented, "bits = 8"},
        Case{kAwq, R"({"zero_point": false})", kUnimplemented, "zero_point"},
        Case{kAwq, R"({"version": "gemv"})", kUnimplemented,
             "version = \"gemv\""},
        Case{kAwq, R"({"group_size": "all"})", kInvalid, "group_size"}}) {
    const auto config = Parse(With(c.json, c.change));
    EXPECT_EQ(config.status().code(), c.code) << c.change;
    EXPECT_THAT(config.status().message(), HasSubstr(c.message));
    EXPECT_THAT(config.status().message(), HasSubstr("DIR/config.json"));
  }
}

}  // namespace
}  // namespace qeff
