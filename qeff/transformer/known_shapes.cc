// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/known_shapes.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Llama and what is configured like it.
struct LlamaLikeShape {
  const char* name;
  const char* family;
  const char* architecture;
  int64_t hidden, layers, ffn, heads, kv_heads, head_dim, vocab, positions;
  double rope_theta, norm_epsilon;
  bool tied;
};

constexpr LlamaLikeShape kLlamaLike[] = {
    // TinyLlama 1.1B.
    {"llama-1b", "llama", "LlamaForCausalLM", 2048, 22, 5632, 32, 4, 64, 32000,
     2048, 10000, 1e-5, false},
    // Llama 2 7B.
    {"llama-7b", "llama", "LlamaForCausalLM", 4096, 32, 11008, 32, 32, 128,
     32000, 4096, 10000, 1e-5, false},
    // SmolLM 135M.
    {"smollm-135m", "llama", "LlamaForCausalLM", 576, 30, 1536, 9, 3, 64, 49152,
     2048, 10000, 1e-5, true},
    // Qwen2.5 0.5B.
    {"qwen2.5-0.5b", "qwen2", "Qwen2ForCausalLM", 896, 24, 4864, 14, 2, 64,
     151936, 32768, 1e6, 1e-6, true},
    // Qwen3 0.6B.
    {"qwen3-0.6b", "qwen3", "Qwen3ForCausalLM", 1024, 28, 3072, 16, 8, 128,
     151936, 40960, 1e6, 1e-6, true},
    // A model that trains on a laptop.
    {"llama-6m", "llama", "LlamaForCausalLM", 256, 6, 768, 8, 4, 32, 2048, 512,
     10000, 1e-5, false},
    {"tiny", "llama", "LlamaForCausalLM", 64, 2, 172, 4, 2, 16, 320, 256, 10000,
     1e-5, false},
    {"tiny-mistral", "mistral", "MistralForCausalLM", 64, 2, 128, 4, 2, 16, 320,
     256, 10000, 1e-5, false},
    {"tiny-qwen2", "qwen2", "Qwen2ForCausalLM", 64, 2, 128, 4, 2, 16, 320, 256,
     1e6, 1e-6, true},
    {"tiny-qwen3", "qwen3", "Qwen3ForCausalLM", 64, 2, 128, 4, 2, 32, 320, 256,
     1e6, 1e-6, false},
};

Json LlamaLikeConfig(const LlamaLikeShape& s) {
  Json config{{"architectures", {s.architecture}},
              {"model_type", s.family},
              {"hidden_size", s.hidden},
              {"intermediate_size", s.ffn},
              {"num_hidden_layers", s.layers},
              {"num_attention_heads", s.heads},
              {"num_key_value_heads", s.kv_heads},
              {"vocab_size", s.vocab},
              {"max_position_embeddings", s.positions},
              {"rms_norm_eps", s.norm_epsilon},
              {"rope_theta", s.rope_theta},
              {"hidden_act", "silu"},
              {"tie_word_embeddings", s.tied}};
  if (s.head_dim * s.heads != s.hidden) config["head_dim"] = s.head_dim;
  if (std::string(s.family) == "mistral") config["sliding_window"] = 32;
  return config;
}

struct Gpt2Shape {
  const char* name;
  int64_t hidden, layers, heads, vocab, positions;
};

constexpr Gpt2Shape kGpt2[] = {
    {"gpt2", 768, 12, 12, 50257, 1024},
    {"tiny-gpt2", 64, 2, 4, 320, 256},
};

Json Gpt2Config(const Gpt2Shape& s) {
  return Json{{"architectures", {"GPT2LMHeadModel"}},
              {"model_type", "gpt2"},
              {"n_embd", s.hidden},
              {"n_layer", s.layers},
              {"n_head", s.heads},
              {"n_positions", s.positions},
              {"n_ctx", s.positions},
              {"vocab_size", s.vocab},
              {"layer_norm_epsilon", 1e-5},
              {"activation_function", "gelu_new"},
              {"n_inner", nullptr},
              {"tie_word_embeddings", true}};
}

struct MptShape {
  const char* name;
  int64_t hidden, layers, heads, vocab, positions;
};

constexpr MptShape kMpt[] = {
    {"mpt-7b", 4096, 32, 32, 50432, 2048},
    {"tiny-mpt", 64, 2, 4, 320, 256},
};

Json MptConfig(const MptShape& s) {
  return Json{{"architectures", {"MPTForCausalLM"}},
              {"model_type", "mpt"},
              {"d_model", s.hidden},
              {"n_heads", s.heads},
              {"n_layers", s.layers},
              {"expansion_ratio", 4},
              {"max_seq_len", s.positions},
              {"vocab_size", s.vocab},
              {"no_bias", true},
              {"attn_config",
               {{"alibi", true},
                {"alibi_bias_max", 8},
                {"attn_impl", "torch"},
                {"qk_ln", false},
                {"clip_qkv", nullptr},
                {"softmax_scale", nullptr},
                {"attn_type", "multihead_attention"}}},
              {"layer_norm_epsilon", 1e-5},
              {"norm_type", "low_precision_layernorm"},
              {"tie_word_embeddings", true}};
}

}  // namespace

std::vector<std::string> KnownShapeNames() {
  std::vector<std::string> names;
  for (const LlamaLikeShape& s : kLlamaLike) names.push_back(s.name);
  for (const Gpt2Shape& s : kGpt2) names.push_back(s.name);
  for (const MptShape& s : kMpt) names.push_back(s.name);
  return names;
}

absl::StatusOr<Json> KnownShapeConfig(absl::string_view name) {
  for (const LlamaLikeShape& s : kLlamaLike) {
    if (name == s.name) return LlamaLikeConfig(s);
  }
  for (const Gpt2Shape& s : kGpt2) {
    if (name == s.name) return Gpt2Config(s);
  }
  for (const MptShape& s : kMpt) {
    if (name == s.name) return MptConfig(s);
  }
  return InvalidInputError("shape: expected one of ",
                           absl::StrJoin(KnownShapeNames(), ", "), ", found '",
                           name, "'");
}

std::string NumLayersKey(const Json& config) {
  for (const char* key : {"num_hidden_layers", "n_layer", "n_layers"}) {
    if (config.contains(key)) return key;
  }
  QEFF_CHECK(false && "not a known configuration");
}

}  // namespace qeff
