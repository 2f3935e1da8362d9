// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/mappings/llama_like.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "qeff/transformer/mappings/config_fields.h"
#include "qeff/util/status.h"

namespace qeff::internal_mappings {
namespace {

absl::Status ReadHeads(const JsonObjectReader& config,
                       const LlamaLikeDefaults& defaults,
                       TransformerSpec* spec) {
  QEFF_ASSIGN_OR_RETURN(spec->num_heads, Size(config, "num_attention_heads"));
  QEFF_ASSIGN_OR_RETURN(
      spec->num_kv_heads,
      config.IntOr("num_key_value_heads", spec->num_heads, 1, spec->num_heads));
  if (spec->num_heads % spec->num_kv_heads != 0) {
    return config.Unexpected(
        "num_key_value_heads",
        absl::StrCat("a divisor of num_attention_heads = ", spec->num_heads));
  }
  if (config.Has("head_dim")) {
    QEFF_ASSIGN_OR_RETURN(spec->head_dim, Size(config, "head_dim"));
  } else if (defaults.head_dim != 0) {
    spec->head_dim = defaults.head_dim;
  } else {
    QEFF_ASSIGN_OR_RETURN(spec->head_dim,
                          DividedHeadDim(config, "num_attention_heads",
                                         spec->hidden_size, spec->num_heads));
  }
  spec->attention_scale = 1.0 / std::sqrt(static_cast<double>(spec->head_dim));
  return absl::OkStatus();
}

BlockNames NamesOfBlock(const TransformerSpec& spec, int64_t block,
                        const std::string& prefix) {
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  const bool qkv_bias = spec.qkv_bias;
  BlockNames names;
  names.attention_norm.weight = prefix + "input_layernorm.weight";
  names.ffn_norm.weight = prefix + "post_attention_layernorm.weight";
  if (spec.qk_norm) {
    names.q_norm.weight = attention + "q_norm.weight";
    names.k_norm.weight = attention + "k_norm.weight";
  }
  const auto add = [&](const std::string& module, LinearRole role, int64_t out,
                       int64_t in, bool bias) {
    names.linears.push_back(
        {module, role, block, out, in, bias, /*transposed=*/false});
  };
  add(attention + "q_proj", LinearRole::kQ, spec.q_size(), spec.hidden_size,
      qkv_bias);
  add(attention + "k_proj", LinearRole::kK, spec.kv_size(), spec.hidden_size,
      qkv_bias);
  add(attention + "v_proj", LinearRole::kV, spec.kv_size(), spec.hidden_size,
      qkv_bias);
  add(attention + "o_proj", LinearRole::kO, spec.hidden_size, spec.q_size(),
      spec.attention_output_bias);
  add(mlp + "gate_proj", LinearRole::kGate, spec.ffn_size, spec.hidden_size,
      spec.ffn_bias);
  add(mlp + "up_proj", LinearRole::kUp, spec.ffn_size, spec.hidden_size,
      spec.ffn_bias);
  add(mlp + "down_proj", LinearRole::kDown, spec.hidden_size, spec.ffn_size,
      spec.ffn_bias);
  return names;
}

}  // namespace

absl::Status ReadLlamaLike(const JsonObjectReader& config,
                           const LlamaLikeDefaults& defaults,
                           TransformerSpec* spec) {
  spec->norm = NormKind::kRmsNorm;
  spec->position = PositionKind::kRope;
  spec->gated_ffn = true;
  QEFF_ASSIGN_OR_RETURN(spec->hidden_size, Size(config, "hidden_size"));
  QEFF_ASSIGN_OR_RETURN(spec->num_layers, NumLayers(config, "num_hidden_layers",
                                                    "num_hidden_layers"));
  QEFF_ASSIGN_OR_RETURN(spec->ffn_size, Size(config, "intermediate_size"));
  QEFF_ASSIGN_OR_RETURN(spec->vocab_size, Size(config, "vocab_size"));
  QEFF_ASSIGN_OR_RETURN(
      spec->max_positions,
      MaxPositions(config, "max_position_embeddings", defaults.max_positions));
  QEFF_RETURN_IF_ERROR(ReadHeads(config, defaults, spec));
  QEFF_ASSIGN_OR_RETURN(spec->norm_epsilon,
                        PositiveOr(config, "rms_norm_eps", 1e-6));
  QEFF_ASSIGN_OR_RETURN(spec->activation,
                        ReadActivation(config, "hidden_act", "silu"));
  QEFF_ASSIGN_OR_RETURN(spec->rope, ReadRope(config));
  QEFF_ASSIGN_OR_RETURN(spec->tied_lm_head,
                        config.BoolOr("tie_word_embeddings", false));
  return absl::OkStatus();
}

void NameLlamaLike(HasTensor has_tensor, ModelMap* map) {
  const TransformerSpec& spec = map->spec;
  // Folders that were saved from the model without its head lack the prefix.
  const std::string prefix = has_tensor("embed_tokens.weight") ? "" : "model.";
  map->token_embedding = prefix + "embed_tokens.weight";
  map->block_prefix = prefix + "layers.";
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    map->blocks.push_back(
        NamesOfBlock(spec, i, absl::StrCat(map->block_prefix, i, ".")));
  }
  map->final_norm.weight = prefix + "norm.weight";
  map->lm_head = {"lm_head",        LinearRole::kLmHead, -1,   spec.vocab_size,
                  spec.hidden_size, /*has_bias=*/false,  false};
  map->harmless_suffixes = {"rotary_emb.inv_freq"};
}

}  // namespace qeff::internal_mappings
