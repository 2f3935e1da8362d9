// SPDX-License-Identifier: Apache-2.0
//
// Every family and variant: the host forward against the double reference.

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

struct Variant {
  const char* name;
  const char* family;
  const char* changes = "{}";
  bool with_prefix = true;
};

// gtest prints a parameter with this.
void PrintTo(const Variant& variant, std::ostream* out) {
  *out << variant.name;
}

const Variant kVariants[] = {
    {"llama", "llama"},
    {"llama_no_prefix", "llama", "{}", false},
    {"llama_tied", "llama", R"({"tie_word_embeddings": true})"},
    {"llama_mha", "llama", R"({"num_key_value_heads": null})"},
    {"llama_mqa", "llama", R"({"num_key_value_heads": 1})"},
    {"llama_biases", "llama", R"({"attention_bias": true, "mlp_bias": true})"},
    {"llama_attention_bias", "llama", R"({"attention_bias": true})"},
    {"llama_head_dim", "llama", R"({"head_dim": 10})"},
    {"llama_linear_rope", "llama",
     R"({"rope_scaling": {"type": "linear", "factor": 2.5}})"},
    {"llama_llama3_rope", "llama",
     R"({"head_dim": 16, "rope_scaling": {"rope_type": "llama3", "factor": 8,
         "low_freq_factor": 1, "high_freq_factor": 4,
         "original_max_position_embeddings": 32}})"},
    {"llama_rope_parameters", "llama",
     R"({"rope_theta": null, "rope_parameters": {"rope_type": "linear",
         "factor": 2, "rope_theta": 50}})"},
    {"llama_gelu", "llama", R"({"hidden_act": "gelu"})"},
    {"llama_gelu_tanh", "llama", R"({"hidden_act": "gelu_pytorch_tanh"})"},
    {"llama_relu", "llama", R"({"hidden_act": "relu"})"},
    {"mistral", "mistral", R"({"sliding_window": null})"},
    {"mistral_window", "mistral", R"({"sliding_window": 5})"},
    {"mistral_window_1", "mistral", R"({"sliding_window": 1})"},
    {"qwen2", "qwen2"},
    {"qwen2_tied_window", "qwen2",
     R"({"tie_word_embeddings": true, "use_sliding_window": true,
         "sliding_window": 7, "max_window_layers": 0})"},
    {"qwen2_unused_window", "qwen2", R"({"sliding_window": 7})"},
    {"qwen3", "qwen3"},
    {"qwen3_head_dim", "qwen3", R"({"head_dim": 12})"},
    {"qwen3_bias", "qwen3", R"({"attention_bias": true})"},
    {"gpt2", "gpt2"},
    {"gpt2_no_prefix", "gpt2", "{}", false},
    {"gpt2_untied", "gpt2", R"({"tie_word_embeddings": false})"},
    {"gpt2_inner_relu", "gpt2",
     R"({"n_inner": 30, "activation_function": "relu"})"},
    {"gpt2_gelu", "gpt2", R"({"activation_function": "gelu"})"},
    {"gpt2_unscaled", "gpt2", R"({"scale_attn_weights": false})"},
    {"mpt_6_heads", "mpt"},
    {"mpt_4_heads", "mpt", R"({"n_heads": 4})"},
    {"mpt_3_heads", "mpt", R"({"n_heads": 3})"},
    {"mpt_no_prefix_untied", "mpt", R"({"tie_word_embeddings": false})", false},
    {"mpt_clip", "mpt", R"({"attn_config": {"alibi": true, "clip_qkv": 0.5}})"},
    {"mpt_scale", "mpt",
     R"({"expansion_ratio": 2, "attn_config": {"alibi": true,
         "softmax_scale": 0.9, "alibi_bias_max": 4}})"},
};

class FamiliesTest : public ::testing::TestWithParam<Variant> {};

// A float32 forward of two such blocks: sums of at most 96 terms, some twenty
// steps deep, each off by a few 2^-24 of its size: about 20 * sqrt(96) * 2^-24
// = 1.2e-5 if errors were never averaged out. Observed: at most 9e-7.
constexpr double kTolerance = 1.2e-5;

TEST_P(FamiliesTest, AgreesWithADoubleReference) {
  const Variant& variant = GetParam();
  const TestModel model =
      MakeTestModel(variant.family, variant.changes, variant.with_prefix);
  const auto pool = *CreateThreadPool(2);
  const auto transformer = Transformer::Load(OpenTestModel(model));
  ASSERT_TRUE(transformer.ok()) << transformer.status();
  const auto forward = *HostForward::Create(*transformer, pool.get());
  for (int64_t length : {1, 2, 33, 48}) {
    const std::vector<int32_t> tokens = TestTokens(length);
    const auto logits = forward->LogitsOf(tokens);
    ASSERT_TRUE(logits.ok()) << logits.status();
    EXPECT_LT(RelativeError(*logits, ReferenceLogits(model, tokens)),
              kTolerance)
        << length << " tokens";
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, FamiliesTest, ::testing::ValuesIn(kVariants),
                         [](const ::testing::TestParamInfo<Variant>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace qeff
