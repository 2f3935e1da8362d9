// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/model_map.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Configs as published checkpoints have them, cut down.
const char* ConfigOf(absl::string_view family) {
  if (family == "gpt2") {
    return R"({"model_type": "gpt2", "n_embd": 12, "n_layer": 2, "n_head": 3,
               "n_positions": 16, "vocab_size": 20, "bos_token_id": 7,
               "eos_token_id": 7})";
  }
  if (family == "mpt") {
    return R"({"model_type": "mpt", "d_model": 12, "n_heads": 6, "n_layers": 2,
               "expansion_ratio": 4, "max_seq_len": 16, "vocab_size": 20,
               "no_bias": true, "attn_config": {"alibi": true}})";
  }
  static std::string* const text = new std::string();
  *text = R"({"model_type": ")" + std::string(family) + R"(",
      "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 2,
      "num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 20,
      "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "head_dim": 2,
      "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": [2, 3]})";
  return text->c_str();
}

// The config of `family` with the members of `changes` (JSON text) in place of
// its own; {"@remove": [keys]} takes keys away.
absl::StatusOr<ModelMap> Map(absl::string_view family,
                             const std::string& changes = "{}",
                             bool with_prefix = true) {
  Json config = *ParseJson(ConfigOf(family), "test");
  const Json patch = *ParseJson(changes, changes);
  for (const auto& [key, value] : patch.items()) {
    if (key != "@remove") {
      config[key] = value;
      continue;
    }
    for (const Json& name : value) config.erase(name.get<std::string>());
  }
  return MapConfig(config, "m/config.json", [&](absl::string_view name) {
    return !with_prefix &&
           (name == "embed_tokens.weight" || name == "wte.weight");
  });
}

TransformerSpec SpecOf(absl::string_view family,
                       const std::string& changes = "{}") {
  const auto map = Map(family, changes);
  EXPECT_TRUE(map.ok()) << map.status();
  return map.ok() ? map->spec : TransformerSpec();
}

TEST(ModelMapTest, Llama) {
  const ModelMap map = *Map("llama");
  EXPECT_EQ(map.spec.family, "llama");
  EXPECT_EQ(map.spec.hidden_size, 12);
  EXPECT_EQ(map.spec.num_kv_heads, 3);
  EXPECT_EQ(map.spec.max_positions, 64);
  EXPECT_FALSE(map.spec.tied_lm_head);
  EXPECT_FALSE(map.spec.qkv_bias);
  EXPECT_EQ(map.spec.bos_token_id, 1);
  EXPECT_THAT(map.spec.eos_token_ids, ElementsAre(2, 3));
  EXPECT_DOUBLE_EQ(map.spec.attention_scale, 1 / std::sqrt(2.0));
  EXPECT_EQ(map.token_embedding, "model.embed_tokens.weight");
  EXPECT_EQ(map.final_norm.weight, "model.norm.weight");
  ASSERT_EQ(map.blocks.size(), 2u);
  const LinearModule& down = map.blocks[1].linears[6];
  EXPECT_EQ(down.module, "model.layers.1.mlp.down_proj");
  EXPECT_EQ(down.out_features, 12);
  EXPECT_EQ(down.in_features, 20);
  EXPECT_EQ(map.Linears().size(), 2u * 7 + 1);
  EXPECT_EQ(map.Linears().back().module, "lm_head");
  EXPECT_EQ(Map("llama", R"({"tie_word_embeddings": true})")->Linears().size(),
            2u * 7);
}

TEST(ModelMapTest, NamesWithoutPrefix) {
  EXPECT_EQ(Map("llama", "{}", false)->blocks[1].ffn_norm.weight,
            "layers.1.post_attention_layernorm.weight");
  EXPECT_EQ(Map("gpt2", "{}", false)->blocks[0].linears[0].module,
            "h.0.attn.c_attn");
  EXPECT_EQ(Map("gpt2")->blocks[0].linears[0].module,
            "transformer.h.0.attn.c_attn");
  EXPECT_EQ(Map("mpt", "{}", false)->final_norm.weight, "norm_f.weight");
}

TEST(ModelMapTest, LlamaVariants) {
  const TransformerSpec biased =
      SpecOf("llama", R"({"attention_bias": true, "mlp_bias": true})");
  EXPECT_TRUE(biased.qkv_bias);
  EXPECT_TRUE(biased.attention_output_bias);
  EXPECT_TRUE(biased.ffn_bias);
  EXPECT_EQ(
      SpecOf("llama", R"({"@remove": ["num_key_value_heads"]})").num_kv_heads,
      6);
  EXPECT_EQ(SpecOf("llama", R"({"head_dim": 8})").q_size(), 48);
  EXPECT_EQ(SpecOf("llama", R"({"head_dim": null})").head_dim, 2);
  EXPECT_EQ(
      SpecOf("llama", R"({"hidden_act": "gelu_pytorch_tanh"})").activation,
      Activation::kGeluTanh);
  // Keys that do not change the result.
  EXPECT_TRUE(Map("llama", R"({"torch_dtype": "bfloat16", "dtype": "x",
      "auto_map": {"AutoModel": "evil.Code"}, "use_cache": false,
      "attention_dropout": 0.5, "pretraining_tp": 2,
      "architectures": ["LlamaForCausalLM"]})")
                  .ok());
}

TEST(ModelMapTest, RopeScaling) {
  EXPECT_EQ(SpecOf("llama").rope.scaling, RopeScaling::kNone);
  for (const char* config : {
           R"({"rope_theta": 5e5, "rope_scaling": {"type": "linear",
               "factor": 4}})",
           R"({"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear",
               "type": "linear", "factor": 4.0}})",
           R"({"rope_parameters": {"rope_type": "linear", "factor": 4,
               "rope_theta": 500000}})",
       }) {
    const RopeSpec rope = SpecOf("llama", config).rope;
    EXPECT_EQ(rope.scaling, RopeScaling::kLinear) << config;
    EXPECT_EQ(rope.theta, 5e5) << config;
    EXPECT_EQ(rope.factor, 4.0) << config;
  }
  const RopeSpec llama3 =
      SpecOf("llama", R"({"rope_scaling": {"rope_type": "llama3", "factor": 8,
          "low_freq_factor": 1, "high_freq_factor": 4,
          "original_max_position_embeddings": 8192}})")
          .rope;
  EXPECT_EQ(llama3.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(llama3.original_max_positions, 8192);
  EXPECT_EQ(SpecOf("qwen3", R"({"rope_parameters": {"rope_type": "default",
                               "rope_theta": 1e6}})")
                .rope.theta,
            1e6);
}

TEST(ModelMapTest, SlidingWindows) {
  EXPECT_EQ(SpecOf("mistral").sliding_window, 4096);
  EXPECT_EQ(SpecOf("mistral", R"({"sliding_window": null})").sliding_window, 0);
  EXPECT_EQ(SpecOf("mistral", R"({"sliding_window": 5})").sliding_window, 5);
  EXPECT_EQ(SpecOf("qwen2", R"({"sliding_window": 5})").sliding_window, 0);
  EXPECT_EQ(SpecOf("qwen2", R"({"use_sliding_window": true,
      "sliding_window": 5, "max_window_layers": 0,
      "layer_types": ["sliding_attention", "sliding_attention"]})")
                .sliding_window,
            5);
  EXPECT_EQ(SpecOf("qwen3", R"({"use_sliding_window": true,
      "sliding_window": 5, "max_window_layers": 2,
      "layer_types": ["full_attention", "full_attention"]})")
                .sliding_window,
            0);
}

TEST(ModelMapTest, Qwen) {
  EXPECT_TRUE(SpecOf("qwen2").qkv_bias);
  EXPECT_FALSE(SpecOf("qwen2").attention_output_bias);
  const ModelMap map = *Map("qwen3", R"({"@remove": ["head_dim"]})");
  EXPECT_EQ(map.spec.head_dim, 128);
  EXPECT_TRUE(map.spec.qk_norm);
  EXPECT_FALSE(map.spec.qkv_bias);
  EXPECT_EQ(map.blocks[0].q_norm.weight,
            "model.layers.0.self_attn.q_norm.weight");
}

TEST(ModelMapTest, Gpt2) {
  const ModelMap map = *Map("gpt2");
  EXPECT_EQ(map.spec.ffn_size, 48);
  EXPECT_TRUE(map.spec.tied_lm_head);
  EXPECT_EQ(map.spec.activation, Activation::kGeluTanh);
  EXPECT_EQ(map.position_embedding, "transformer.wpe.weight");
  EXPECT_TRUE(map.blocks[0].linears[0].transposed);
  EXPECT_EQ(map.blocks[0].linears[0].out_features, 36);
  EXPECT_EQ(SpecOf("gpt2", R"({"n_inner": 10})").ffn_size, 10);
  EXPECT_EQ(SpecOf("gpt2", R"({"scale_attn_weights": false})").attention_scale,
            1.0);
  EXPECT_EQ(SpecOf("gpt2", R"({"activation_function": "relu"})").activation,
            Activation::kRelu);
}

TEST(ModelMapTest, Mpt) {
  const TransformerSpec spec = SpecOf("mpt");
  EXPECT_EQ(spec.ffn_size, 48);
  EXPECT_EQ(spec.position, PositionKind::kAlibi);
  EXPECT_EQ(spec.activation, Activation::kGelu);
  EXPECT_EQ(spec.clip_qkv, 0.0);
  const TransformerSpec changed = SpecOf("mpt", R"({"expansion_ratio": 1.5,
      "attn_config": {"clip_qkv": 6, "softmax_scale": 0.25,
                      "alibi_bias_max": 16}})");
  EXPECT_EQ(changed.ffn_size, 18);
  EXPECT_EQ(changed.clip_qkv, 6.0);
  EXPECT_EQ(changed.attention_scale, 0.25);
  EXPECT_EQ(changed.alibi_bias_max, 16.0);
}

struct BadConfig {
  const char* family;
  const char* changes;
  const char* message;  // after "m/config.json: "
};

// Values that no model can have.
const BadConfig kInvalid[] = {
    // Sizes.
    {"llama", R"({"hidden_size": 0})", "hidden_size: expected an integer"},
    {"llama", R"({"hidden_size": -1})", "hidden_size"},
    {"llama", R"({"hidden_size": 2147483648})", "hidden_size"},
    {"llama", R"({"hidden_size": 9223372036854775808})", "hidden_size"},
    {"llama", R"({"hidden_size": 1.5})", "hidden_size"},
    {"llama", R"({"hidden_size": "64"})", "hidden_size"},
    {"llama", R"({"hidden_size": null})", "hidden_size"},
    {"llama", R"({"@remove": ["hidden_size"]})", "found nothing"},
    {"llama", R"({"num_hidden_layers": 0})", "num_hidden_layers"},
    {"llama", R"({"num_hidden_layers": 2147483647})", "at most 10000 layers"},
    {"llama", R"({"num_attention_heads": 0})", "num_attention_heads"},
    {"llama", R"({"vocab_size": -1})", "vocab_size"},
    {"llama", R"({"intermediate_size": 2147483648})", "intermediate_size"},
    {"llama", R"({"max_position_embeddings": 1099511627776})",
     "max_position_embeddings"},
    {"llama", R"({"head_dim": 0})", "head_dim"},
    {"llama", R"({"head_dim": 3})", "head_dim: rope needs an even size"},
    {"llama", R"({"head_dim": 2147483646})", "num_heads * head_dim"},
    {"gpt2", R"({"n_embd": 0})", "n_embd"},
    {"gpt2", R"({"n_layer": 1000000})", "n_layer: expected at most 10000"},
    {"gpt2", R"({"n_positions": 1099511627776})", "n_positions"},
    {"gpt2", R"({"n_inner": -4})", "n_inner"},
    {"gpt2", R"({"hidden_size": 24})", "hidden_size: expected n_embd = 12"},
    {"gpt2", R"({"head_dim": 8})", "head_dim: expected n_embd / n_head = 4"},
    {"mpt", R"({"d_model": 1.5})", "d_model"},
    {"mpt", R"({"n_heads": 5})", "n_heads: expected a divisor"},
    {"mpt", R"({"expansion_ratio": 0})", "expansion_ratio"},
    {"mpt", R"({"expansion_ratio": 1e300})", "expansion_ratio"},
    {"mpt", R"({"expansion_ratio": 1.01})", "expansion_ratio"},
    {"mpt", R"({"head_dim": 8})", "head_dim: expected d_model / n_heads"},
    // Heads.
    {"llama", R"({"head_dim": null, "num_attention_heads": 5,
                  "num_key_value_heads": 5})",
     "num_attention_heads: expected a divisor"},
    {"llama", R"({"num_key_value_heads": 0})", "num_key_value_heads"},
    {"llama", R"({"num_key_value_heads": 12})", "num_key_value_heads"},
    {"llama", R"({"num_key_value_heads": 4})",
     "num_key_value_heads: expected a divisor of num_attention_heads = 6"},
    {"gpt2", R"({"n_head": 5})", "n_head: expected a divisor"},
    // Numbers.
    {"llama", R"({"rms_norm_eps": 0})", "rms_norm_eps"},
    {"llama", R"({"rms_norm_eps": -1})", "rms_norm_eps"},
    {"llama", R"({"rms_norm_eps": "NaN"})", "rms_norm_eps"},
    {"gpt2", R"({"layer_norm_epsilon": 0})", "layer_norm_epsilon"},
    {"mpt", R"({"layer_norm_epsilon": []})", "layer_norm_epsilon"},
    {"mpt", R"({"attn_config": {"clip_qkv": -1}})", "clip_qkv"},
    {"mpt", R"({"attn_config": {"softmax_scale": 0}})", "softmax_scale"},
    {"mpt", R"({"attn_config": {"alibi_bias_max": 0}})", "alibi_bias_max"},
    {"mpt", R"({"attn_config": 3})", "attn_config"},
    // Rope.
    {"llama", R"({"rope_theta": 0})", "rope_theta"},
    {"llama", R"({"rope_theta": -5})", "rope_theta"},
    {"llama", R"({"rope_theta": "Infinity"})", "rope_theta"},
    {"llama", R"({"rope_scaling": []})", "rope_scaling"},
    {"llama", R"({"rope_scaling": {"type": "linear"}})", "factor"},
    {"llama", R"({"rope_scaling": {"type": "linear", "factor": 0}})", "factor"},
    {"llama", R"({"rope_scaling": {"type": "linear", "rope_type": "llama3",
                                   "factor": 2}})",
     "type: expected rope_type llama3"},
    {"llama", R"({"rope_scaling": {"rope_type": "llama3", "factor": 2}})",
     "low_freq_factor"},
    {"llama", R"({"rope_scaling": {"rope_type": "llama3", "factor": 2,
        "low_freq_factor": 4, "high_freq_factor": 4,
        "original_max_position_embeddings": 8}})",
     "high_freq_factor: expected more than low_freq_factor"},
    {"llama", R"({"rope_scaling": {"rope_type": "llama3", "factor": 2,
        "low_freq_factor": 1, "high_freq_factor": 4}})",
     "original_max_position_embeddings"},
    {"llama", R"({"rope_scaling": {"type": "linear", "factor": 2},
                  "rope_parameters": {"rope_type": "default"}})",
     "rope_scaling: expected null beside rope_parameters"},
    {"llama", R"({"rope_theta": 10, "rope_parameters":
                  {"rope_type": "default", "rope_theta": 20}})",
     "expected the outer rope_theta 10, found 20"},
    // Tokens.
    {"llama", R"({"bos_token_id": 20})", "bos_token_id"},
    {"llama", R"({"bos_token_id": -1})", "bos_token_id"},
    {"llama", R"({"eos_token_id": 20})", "eos_token_id"},
    {"llama", R"({"eos_token_id": [2, 20]})", "eos_token_id"},
    {"llama", R"({"eos_token_id": [2, 2]})", "eos_token_id: expected every"},
    {"llama", R"({"eos_token_id": [18446744073709551615]})", "eos_token_id"},
    {"llama", R"({"eos_token_id": [-1]})", "eos_token_id"},
    {"llama", R"({"eos_token_id": ["2"]})", "eos_token_id"},
    {"llama", R"({"pad_token_id": 20})", "pad_token_id"},
    // Others.
    {"mistral", R"({"sliding_window": 0})", "sliding_window"},
    {"mistral", R"({"sliding_window": -3})", "sliding_window"},
    {"llama", R"({"layer_types": ["full_attention"]})", "a list of 2"},
    {"llama", R"({"tie_word_embeddings": "yes"})", "tie_word_embeddings"},
    {"llama", R"({"architectures": []})", "architectures"},
    {"llama", R"({"architectures": "LlamaForCausalLM"})", "architectures"},
};

// Values that mean a model that is not computed here.
const BadConfig kUnsupported[] = {
    {"llama", R"({"model_type": "mamba"})",
     "model_type: \"mamba\" is not supported, only gpt2, llama, mistral, mpt,"},
    {"llama", R"({"model_type": 5})", "model_type: 5 is not supported"},
    {"llama", R"({"@remove": ["model_type"]})", "model_type: nothing"},
    {"llama", R"({"architectures": ["LlamaForSequenceClassification"]})",
     "architectures: [\"LlamaForSequenceClassification\"] is not"},
    {"llama", R"({"hidden_act": "gelu_fast_approx"})", "hidden_act"},
    {"gpt2", R"({"activation_function": "tanhshrink"})", "activation_function"},
    {"llama", R"({"is_encoder_decoder": true})", "is_encoder_decoder"},
    {"llama", R"({"pruned_heads": {"0": [1]}})", "pruned_heads"},
    {"llama", R"({"rope_scaling": {"type": "dynamic", "factor": 2}})",
     "type: \"dynamic\" is not supported"},
    {"llama", R"({"rope_scaling": {"rope_type": "yarn", "factor": 2}})",
     "rope_type: \"yarn\""},
    {"llama", R"({"rope_scaling": {}})", "type: nothing is not supported"},
    {"qwen2", R"({"rope_scaling": {"type": "default",
                                   "mrope_section": [16, 24, 24]}})",
     "mrope_section"},
    {"qwen3", R"({"rope_parameters": {"full_attention": {}}})",
     "full_attention"},
    {"llama", R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor"},
    {"llama", R"({"layer_types": ["full_attention", "sliding_attention"]})",
     "layer_types"},
    {"mistral", R"({"attention_bias": true})", "attention_bias"},
    {"qwen2", R"({"attention_bias": false})", "attention_bias"},
    {"qwen3", R"({"mlp_bias": true})", "mlp_bias"},
    {"qwen2", R"({"use_sliding_window": true, "sliding_window": 4,
                  "max_window_layers": 1})",
     "max_window_layers"},
    {"gpt2", R"({"scale_attn_by_inverse_layer_idx": true})",
     "scale_attn_by_inverse_layer_idx"},
    {"gpt2", R"({"add_cross_attention": true})", "add_cross_attention"},
    {"mpt", R"({"attn_config": {"alibi": false}})", "alibi: false"},
    {"mpt", R"({"attn_config": {"qk_ln": true}})", "qk_ln"},
    {"mpt", R"({"attn_config": {"prefix_lm": true}})", "prefix_lm"},
    {"mpt", R"({"attn_config": {"rope": true}})", "rope"},
    {"mpt", R"({"attn_config": {"attn_type": "multiquery_attention"}})",
     "attn_type: \"multiquery_attention\""},
    {"mpt", R"({"attn_config": {"sliding_window_size": 4}})",
     "sliding_window_size"},
    {"mpt", R"({"norm_type": "rmsnorm"})", "norm_type"},
    {"mpt", R"({"no_bias": false})", "no_bias"},
    {"mpt", R"({"logit_scale": "inv_sqrt_d_model"})", "logit_scale"},
    {"mpt", R"({"ffn_config": {"ffn_type": "mptglu"}})", "ffn_type"},
};

TEST(ModelMapTest, RefusesImpossibleValues) {
  for (const BadConfig& bad : kInvalid) {
    const absl::Status status = Map(bad.family, bad.changes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument)
        << bad.changes << ": " << status;
    EXPECT_THAT(std::string(status.message()), StartsWith("m/config.json: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
  }
}

TEST(ModelMapTest, RefusesWhatIsNotComputed) {
  for (const BadConfig& bad : kUnsupported) {
    const absl::Status status = Map(bad.family, bad.changes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented)
        << bad.changes << ": " << status;
    EXPECT_THAT(std::string(status.message()), StartsWith("m/config.json: "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
  }
}

// Whatever stands under any key, the outcome is a map or a Status.
TEST(ModelMapTest, AnyValueAnywhere) {
  const char* values[] = {"null",
                          "true",
                          "-1",
                          "0",
                          "1",
                          "2",
                          "1.5",
                          "1e308",
                          "2147483648",
                          "9223372036854775807",
                          "18446744073709551615",
                          "\"\"",
                          "\"llama3\"",
                          "[]",
                          "[1]",
                          "[[]]",
                          "{}",
                          "{\"type\": []}",
                          "{\"rope_type\": {}}",
                          "[null, -5, 1e308, 18446744073709551615, \"x\"]"};
  for (const char* family :
       {"llama", "mistral", "qwen2", "qwen3", "gpt2", "mpt"}) {
    std::vector<std::string> keys = {"architectures",     "rope_scaling",
                                     "rope_parameters",   "layer_types",
                                     "sliding_window",    "use_sliding_window",
                                     "max_window_layers", "pad_token_id",
                                     "eos_token_id",      "tie_word_embeddings",
                                     "pruned_heads",      "rope_theta",
                                     "n_inner",           "attn_config",
                                     "ffn_config",        "logit_scale"};
    const Json config = *ParseJson(ConfigOf(family), "test");
    for (const auto& [key, value] : config.items()) keys.push_back(key);
    for (const std::string& key : keys) {
      for (const char* value : values) {
        const auto map =
            Map(family, "{\"" + key + "\": " + std::string(value) + "}");
        if (map.ok()) {
          EXPECT_TRUE(ValidateSpec(map->spec).ok());
        }
      }
    }
  }
}

TEST(ModelMapTest, ConfigMustBeAnObject) {
  const auto none = [](absl::string_view) { return false; };
  EXPECT_EQ(MapConfig(Json::array(), "c", none).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace qeff
