// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/quantization_config.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

// What llm-compressor writes for W4A16.
constexpr char kW4A16[] = R"({
  "model_type": "llama",
  "quantization_config": {
    "quant_method": "compressed-tensors",
    "quantization_status": "compressed",
    "format": "pack-quantized",
    "config_groups": {"group_0": {
      "targets": ["Linear"],
      "weights": {"num_bits": 4, "type": "int", "symmetric": true,
        "strategy": "group", "group_size": 128, "dynamic": false,
        "actorder": null, "observer": "minmax", "observer_kwargs": {},
        "block_structure": null},
      "input_activations": null, "output_activations": null}},
    "ignore": ["lm_head"], "kv_cache_scheme": null,
    "global_compression_ratio": null, "sparsity_config": {},
    "transform_config": {}, "version": "0.12.2"}})";

absl::StatusOr<absl::optional<QuantizationConfig>> Parse(const Json& json) {
  return ParseQuantizationConfig(json, "DIR/config.json");
}

Json W4A16() { return Json::parse(kW4A16); }

TEST(QuantizationConfig, NoneInAPlainModel) {
  const auto config = Parse(Json::parse(R"({"model_type": "llama"})"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->has_value());
  EXPECT_FALSE(
      Parse(Json::parse(R"({"quantization_config": null})"))->has_value());
}

TEST(QuantizationConfig, ReadsW4A16) {
  const auto config = Parse(W4A16());
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_TRUE(config->has_value());
  EXPECT_EQ((*config)->layout(), QuantizedLayout::kCompressedTensors);
  const auto weights = (*config)->Find("model.layers.0.self_attn.q_proj");
  ASSERT_TRUE(weights.has_value());
  EXPECT_EQ(weights->bits, 4);
  EXPECT_TRUE(weights->symmetric);
  EXPECT_EQ(weights->strategy, QuantStrategy::kGroup);
  EXPECT_EQ(weights->group_size, 128);
  EXPECT_FALSE((*config)->Find("lm_head").has_value());
}

TEST(QuantizationConfig, NoneWhereOnlyZerosAreLeftOut) {
  const auto parse = [](const char* change) {
    Json json = Json::parse(R"({"quant_method": "compressed-tensors",
        "quantization_status": "compressed", "format": "dense",
        "config_groups": {}, "ignore": [], "kv_cache_scheme": null,
        "sparsity_config": {"format": "sparse-24-bitmask",
          "targets": ["Linear"], "ignore": ["lm_head"],
          "global_sparsity": 0.5, "sparsity_structure": "2:4",
          "registry_requires_subclass": false}})");
    json.update(Json::parse(change));
    return Parse(Json{{"quantization_config", json}});
  };
  const auto config = parse("{}");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->has_value());
  for (const char* change :
       {R"({"sparsity_config": {"format": "marlin-24"}})",
        R"({"sparsity_config": {"format": "sparse-bitmask"}})",
        R"({"format": "naive-quantized"})", R"({"quant_method": "fp8"})",
        R"({"kv_cache_scheme": {"num_bits": 8}})"}) {
    EXPECT_EQ(parse(change).status().code(), absl::StatusCode::kUnimplemented)
        << change;
  }
}

TEST(QuantizationConfig, WritesWhatItReads) {
  for (QuantizedLayout layout :
       {QuantizedLayout::kCompressedTensors, QuantizedLayout::kQeff}) {
    QuantScheme int4 = ParseQuantScheme("int4_g32").value();
    int4.symmetric = false;
    const QuantScheme int8 = ParseQuantScheme("int8").value();
    const auto config = QuantizationConfig::Create(
        layout,
        {{{"Linear"}, WeightQuantization::FromScheme(int4)},
         {{"lm_head"}, WeightQuantization::FromScheme(int8)}},
        {"model.layers.1.mlp.down_proj"});
    ASSERT_TRUE(config.ok()) << config.status();
    Json json;
    json["quantization_config"] = config->ToJson();
    const auto again = Parse(json);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ((*again)->ToJson(), config->ToJson());
    EXPECT_EQ((*again)->layout(), layout);
    EXPECT_EQ((*again)->Find("lm_head")->bits, 8);
    EXPECT_EQ((*again)->Find("lm_head")->strategy, QuantStrategy::kChannel);
    EXPECT_EQ((*again)->Find("model.x")->bits, 4);
    EXPECT_FALSE((*again)->Find("model.x")->symmetric);
    EXPECT_FALSE((*again)->Find("model.layers.1.mlp.down_proj").has_value());
  }
}

// Readers of compressed-tensors refuse keys that they do not know.
TEST(QuantizationConfig, AddsNoKeysToCompressedTensors) {
  const auto config = QuantizationConfig::Create(
      QuantizedLayout::kCompressedTensors,
      {{{"Linear"},
        WeightQuantization::FromScheme(ParseQuantScheme("int4_g128").value())}},
      {"lm_head"});
  const Json reference = W4A16()["quantization_config"];
  const Json written = config->ToJson();
  for (const auto& item : written.items()) {
    EXPECT_TRUE(reference.contains(item.key())) << item.key();
  }
  const Json group = reference["config_groups"]["group_0"];
  for (const auto& item :
       written["config_groups"]["group_0"]["weights"].items()) {
    EXPECT_TRUE(group["weights"].contains(item.key())) << item.key();
    EXPECT_EQ(group["weights"][item.key()], item.value()) << item.key();
  }
}

// What llm-compressor writes for W8A8.
constexpr char kW8A8[] = R"({
  "quantization_config": {
    "quant_method": "compressed-tensors",
    "quantization_status": "compressed",
    "format": "int-quantized",
    "config_groups": {"group_0": {
      "targets": ["Linear"],
      "weights": {"num_bits": 8, "type": "int", "symmetric": true,
        "strategy": "channel", "group_size": null, "dynamic": false,
        "actorder": null, "observer": "minmax", "observer_kwargs": {},
        "block_structure": null},
      "input_activations": {"num_bits": 8, "type": "int", "symmetric": true,
        "strategy": "token", "group_size": null, "dynamic": true,
        "actorder": null, "observer": null, "observer_kwargs": {},
        "block_structure": null},
      "output_activations": null}},
    "ignore": ["lm_head"], "kv_cache_scheme": null,
    "global_compression_ratio": null}})";

TEST(QuantizationConfig, Int8InputsAreReadAndWritten) {
  Json reference = Json::parse(kW8A8);
  for (const std::string name : {"w8a8", "w8a8_static"}) {
    SCOPED_TRACE(name);
    Json& group = reference["quantization_config"]["config_groups"]["group_0"];
    if (name == "w8a8_static") {
      Json& inputs = group["input_activations"];
      inputs["strategy"] = "tensor";
      inputs["dynamic"] = false;
      inputs["observer"] = "minmax";
    }
    const auto read = Parse(reference);
    ASSERT_TRUE(read.ok()) << read.status();
    const WeightQuantization weights = *(*read)->Find("m");
    EXPECT_TRUE(weights.signed_bytes);
    EXPECT_EQ(weights.bits, 8);
    EXPECT_EQ(weights.inputs, ParseQuantScheme(name)->inputs);

    const auto written = QuantizationConfig::Create(
        QuantizedLayout::kCompressedTensors,
        {{{"Linear"},
          WeightQuantization::FromScheme(ParseQuantScheme(name).value())}},
        {"lm_head"});
    Json expected = reference["quantization_config"];
    expected["config_groups"]["group_0"]["format"] = "int-quantized";
    EXPECT_EQ(written->ToJson(), expected);
  }
}

TEST(QuantizationConfig, FormatsMix) {
  for (QuantizedLayout layout :
       {QuantizedLayout::kCompressedTensors, QuantizedLayout::kQeff}) {
    const auto weights = [](const std::string& name) {
      return WeightQuantization::FromScheme(ParseQuantScheme(name).value());
    };
    const auto config = QuantizationConfig::Create(
        layout, {{{"Linear"}, weights("int4_g32")}, {{"m"}, weights("w8a8")}},
        {});
    Json json;
    json["quantization_config"] = config->ToJson();
    if (layout == QuantizedLayout::kCompressedTensors) {
      EXPECT_EQ(json["quantization_config"]["format"], "mixed-precision");
    }
    const auto again = Parse(json);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ((*again)->ToJson(), config->ToJson());
    EXPECT_TRUE((*again)->Find("m")->signed_bytes);
    EXPECT_EQ((*again)->Find("m")->inputs, InputCodes::kPerToken);
    EXPECT_FALSE((*again)->Find("x")->signed_bytes);
    EXPECT_EQ((*again)->Find("x")->inputs, InputCodes::kNone);
  }
}

TEST(QuantizationConfig, NamesGoBeforePatternsBeforeClasses) {
  Json json = W4A16();
  Json& config = json["quantization_config"];
  Json& groups = config["config_groups"];
  for (int i = 1; i <= 2; ++i) {
    groups[absl::StrCat("group_", i)] = groups["group_0"];
    groups[absl::StrCat("group_", i)]["weights"]["group_size"] = 32 * i;
  }
  groups["group_1"]["targets"] = {"re:.*down_proj"};
  groups["group_2"]["targets"] = {"model.layers.3.mlp.down_proj"};
  config["ignore"] = {"re:.*lm_head", "re:model\\.layers\\.[45]\\..*"};
  const auto parsed = Parse(json);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const QuantizationConfig& c = **parsed;
  EXPECT_EQ(c.Find("model.layers.3.mlp.up_proj")->group_size, 128);
  EXPECT_EQ(c.Find("model.layers.2.mlp.down_proj")->group_size, 32);
  EXPECT_EQ(c.Find("model.layers.3.mlp.down_proj")->group_size, 64);
  EXPECT_FALSE(c.Find("model.layers.4.mlp.down_proj").has_value());
  EXPECT_FALSE(c.Find("lm_head").has_value());
}

TEST(QuantizationConfig, UnsupportedValuesNameKeyAndValue) {
  struct Change {
    const char* pointer;
    const char* value;
    const char* key;
  };
  const std::string weights = "/config_groups/group_0/weights";
  for (const Change& change : {
           Change{"/quant_method", "\"fp8\"", "quant_method = \"fp8\""},
           Change{"/format", "\"float-quantized\"", "format"},
           Change{"/format", "\"naive-quantized\"", "format"},
           Change{"/format", "\"int-quantized\"", "num_bits = 4"},
           Change{"/quantization_status", "\"frozen\"", "quantization_status"},
           Change{"/kv_cache_scheme", "{\"num_bits\": 8}", "kv_cache_scheme"},
           Change{"/sparsity_config", "{\"format\": \"sparse-24-bitmask\"}",
                  "format"},
           Change{"/transform_config", "{\"x\": 1}", "transform_config"},
           Change{"/config_groups/group_0/input_activations",
                  "{\"num_bits\": 4}", "input_activations: num_bits = 4"},
           Change{"/config_groups/group_0/input_activations",
                  "{\"num_bits\": 8, \"type\": \"float\"}", "type"},
           Change{"/config_groups/group_0/input_activations",
                  "{\"num_bits\": 8, \"symmetric\": false}", "symmetric"},
           Change{"/config_groups/group_0/input_activations",
                  "{\"num_bits\": 8, \"dynamic\": \"local\"}", "dynamic"},
           Change{"/config_groups/group_0/input_activations",
                  "{\"num_bits\": 8, \"dynamic\": true,"
                  " \"strategy\": \"tensor\"}",
                  "strategy"},
           Change{"/config_groups/group_0/input_activations",
                  "{\"num_bits\": 8, \"strategy\": \"group\"}", "strategy"},
           Change{"/config_groups/group_0/output_activations",
                  "{\"num_bits\": 8}", "output_activations"},
           Change{"/config_groups/group_0/format", "\"nvfp4-pack-quantized\"",
                  "format"},
           Change{"/config_groups/group_0/weights/type", "\"float\"", "type"},
           Change{"/config_groups/group_0/weights/strategy", "\"block\"",
                  "strategy"},
           Change{"/config_groups/group_0/weights/dynamic", "true", "dynamic"},
           Change{"/config_groups/group_0/weights/actorder", "\"rows\"",
                  "actorder"},
           Change{"/config_groups/group_0/weights/num_bits", "1", "num_bits"},
           Change{"/config_groups/group_0/weights/num_bits", "16", "num_bits"},
       }) {
    Json json = W4A16();
    json["quantization_config"][Json::json_pointer(change.pointer)] =
        Json::parse(change.value);
    const auto parsed = Parse(json);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kUnimplemented)
        << change.pointer << " " << change.value << ": " << parsed.status();
    EXPECT_NE(parsed.status().message().find(change.key), std::string::npos)
        << parsed.status();
    EXPECT_NE(parsed.status().message().find("DIR/config.json"),
              std::string::npos);
  }
  Json json = W4A16();
  json["quantization_config"] = {{"quant_method", "qeff"}, {"version", 2}};
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kUnimplemented);
  json = W4A16();
  json["compression_config"] = json["quantization_config"];
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(QuantizationConfig, MalformedValuesAreErrors) {
  struct Change {
    const char* pointer;
    const char* value;
  };
  for (const Change& change : {
           Change{"", "[]"},
           Change{"", "3"},
           Change{"/quant_method", "null"},
           Change{"/quant_method", "4"},
           Change{"/config_groups", "null"},
           Change{"/config_groups", "[]"},
           Change{"/config_groups/group_0", "[\"Linear\"]"},
           Change{"/config_groups/group_0/targets", "\"Linear\""},
           Change{"/config_groups/group_0/targets", "[3]"},
           Change{"/config_groups/group_0/targets", "[\"re:(\"]"},
           Change{"/config_groups/group_0/weights", "null"},
           Change{"/config_groups/group_0/weights/num_bits", "null"},
           Change{"/config_groups/group_0/weights/num_bits", "-4"},
           Change{"/config_groups/group_0/weights/num_bits", "4.5"},
           Change{"/config_groups/group_0/weights/num_bits", "\"4\""},
           Change{"/config_groups/group_0/weights/symmetric", "1"},
           Change{"/config_groups/group_0/weights/group_size", "0"},
           Change{"/config_groups/group_0/weights/group_size", "-5"},
           Change{"/config_groups/group_0/weights/group_size", "1e99"},
           Change{"/config_groups/group_0/weights/group_size",
                  "18446744073709551615"},
           Change{"/ignore", "{}"},
           Change{"/ignore", "[\"re:[\"]"},
       }) {
    Json json = W4A16();
    json["quantization_config"][Json::json_pointer(change.pointer)] =
        Json::parse(change.value);
    const auto parsed = Parse(json);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument)
        << change.pointer << " " << change.value << ": " << parsed.status();
    EXPECT_NE(parsed.status().message().find("quantization_config"),
              std::string::npos)
        << parsed.status();
  }
}

TEST(QuantizationConfig, PatternsAreBounded) {
  Json json = W4A16();
  Json& ignore = json["quantization_config"]["ignore"];
  ignore = std::vector<std::string>(256, "re:(a|b){100}");
  EXPECT_TRUE(Parse(json).ok());
  ignore.push_back("lm_head");
  EXPECT_TRUE(Parse(json).ok());
  ignore.push_back("re:x");
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(QuantizationConfig, MissingStrategyFollowsFromGroupSize) {
  Json json = W4A16();
  Json& weights =
      json["quantization_config"]["config_groups"]["group_0"]["weights"];
  weights.erase("strategy");
  EXPECT_EQ((*Parse(json))->Find("x")->strategy, QuantStrategy::kGroup);
  weights["group_size"] = -1;
  EXPECT_EQ((*Parse(json))->Find("x")->strategy, QuantStrategy::kChannel);
  weights.erase("group_size");
  EXPECT_EQ((*Parse(json))->Find("x")->strategy, QuantStrategy::kTensor);
  weights["symmetric"] = false;
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(QuantizationConfig, BlocksOfGgml) {
  const QuantScheme scheme = ParseQuantScheme("q4_k").value();
  const auto config = QuantizationConfig::Create(
      QuantizedLayout::kQeff,
      {{{"Linear"}, WeightQuantization::FromScheme(scheme)}}, {});
  ASSERT_TRUE(config.ok()) << config.status();
  Json json{{"quantization_config", config->ToJson()}};
  EXPECT_EQ(json["quantization_config"]["config_groups"]["group_0"]["weights"],
            Json({{"type", "q4_k"}}));
  const auto read = ParseQuantizationConfig(json, "config.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)->Find("m")->ggml, GgmlType::kQ4_K);

  Json& args =
      json["quantization_config"]["config_groups"]["group_0"]["weights"];
  args["type"] = "q3_k";
  EXPECT_EQ(ParseQuantizationConfig(json, "c").status().code(),
            absl::StatusCode::kUnimplemented);
  args["type"] = "q4_k";
  json["quantization_config"]["quant_method"] = "compressed-tensors";
  EXPECT_EQ(ParseQuantizationConfig(json, "c").status().code(),
            absl::StatusCode::kUnimplemented);
}

Json WithSchemes(QuantizedLayout layout,
                 const std::vector<std::string>& names) {
  std::vector<QuantizationConfig::Group> groups;
  for (const std::string& name : names) {
    groups.push_back(
        {{name}, WeightQuantization::FromScheme(*ParseQuantScheme(name))});
  }
  return Json{{"quantization_config",
               QuantizationConfig::Create(layout, groups, {})->ToJson()}};
}

TEST(QuantizationConfig, Codebooks) {
  const std::vector<std::string> names = {"nf4",   "nf4_g32", "fp8_e4m3",
                                          "mxfp4", "mxfp6",   "mxint8"};
  const Json json = WithSchemes(QuantizedLayout::kQeff, names);
  EXPECT_EQ(json["quantization_config"]["config_groups"]["group_1"]["weights"],
            Json({{"type", "nf4_g32"}}));
  const auto read = Parse(json);
  ASSERT_TRUE(read.ok()) << read.status();
  for (const std::string& name : names) {
    EXPECT_EQ((*read)->Find(name)->ToScheme(), *ParseQuantScheme(name));
  }
}

// As its presets FP8 (without those of activations) and MXFP4A16.
TEST(QuantizationConfig, FloatsOfCompressedTensors) {
  Json json = WithSchemes(QuantizedLayout::kCompressedTensors, {"fp8_e4m3"});
  const Json& fp8 = json["quantization_config"];
  EXPECT_EQ(fp8["format"], "float-quantized");
  EXPECT_EQ(fp8["config_groups"]["group_0"]["format"], "float-quantized");
  EXPECT_EQ(fp8["config_groups"]["group_0"]["weights"]["type"], "float");
  EXPECT_EQ(fp8["config_groups"]["group_0"]["weights"]["strategy"], "channel");
  auto read = Parse(json);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)->Find("fp8_e4m3")->codebook, Codebook::kF8E4M3);
  Json& args =
      json["quantization_config"]["config_groups"]["group_0"]["weights"];
  args["strategy"] = "tensor";
  read = Parse(json);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)->Find("fp8_e4m3")->strategy, QuantStrategy::kTensor);
  args["num_bits"] = 4;
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kUnimplemented);

  json = WithSchemes(QuantizedLayout::kCompressedTensors,
                     {"mxfp4", "fp8_e4m3", "int4_g128"});
  const Json& mixed = json["quantization_config"];
  EXPECT_EQ(mixed["format"], "mixed-precision");
  EXPECT_EQ(mixed["config_groups"]["group_0"]["format"],
            "mxfp4-pack-quantized");
  EXPECT_EQ(mixed["config_groups"]["group_0"]["weights"]["scale_dtype"],
            "torch.uint8");
  EXPECT_EQ(mixed["config_groups"]["group_2"]["format"], "pack-quantized");
  read = Parse(json);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ((*read)->Find("mxfp4")->ToScheme(), *ParseQuantScheme("mxfp4"));
  EXPECT_TRUE((*read)->Find("int4_g128")->ToScheme().integers());
  json["quantization_config"]["config_groups"]["group_0"]["format"] =
      "float-quantized";
  EXPECT_EQ(Parse(json).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace qeff
