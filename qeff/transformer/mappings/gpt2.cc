// SPDX-License-Identifier: Apache-2.0

#include <cmath>

#include "absl/strings/str_cat.h"
#include "qeff/transformer/mappings/config_fields.h"
#include "qeff/transformer/mappings/families.h"
#include "qeff/util/status.h"

namespace qeff::internal_mappings {
namespace {

absl::Status ReadConfig(const JsonObjectReader& config, TransformerSpec* spec) {
  spec->norm = NormKind::kLayerNorm;
  spec->norm_bias = true;
  spec->position = PositionKind::kLearned;
  spec->qkv_bias = true;
  spec->attention_output_bias = true;
  spec->gated_ffn = false;
  spec->ffn_bias = true;
  QEFF_ASSIGN_OR_RETURN(spec->hidden_size,
                        SizeOrAlias(config, "n_embd", "hidden_size"));
  QEFF_ASSIGN_OR_RETURN(spec->num_layers,
                        NumLayers(config, "n_layer", "num_hidden_layers"));
  QEFF_ASSIGN_OR_RETURN(spec->num_heads,
                        SizeOrAlias(config, "n_head", "num_attention_heads"));
  QEFF_ASSIGN_OR_RETURN(spec->vocab_size, Size(config, "vocab_size"));
  QEFF_ASSIGN_OR_RETURN(spec->max_positions,
                        MaxPositions(config, "n_positions", 1024));
  spec->num_kv_heads = spec->num_heads;
  QEFF_ASSIGN_OR_RETURN(
      spec->head_dim,
      DividedHeadDim(config, "n_head", spec->hidden_size, spec->num_heads));
  QEFF_ASSIGN_OR_RETURN(
      spec->ffn_size,
      config.IntOr("n_inner", 4 * spec->hidden_size, 1, 0x7FFFFFFF));
  QEFF_ASSIGN_OR_RETURN(spec->norm_epsilon,
                        PositiveOr(config, "layer_norm_epsilon", 1e-5));
  QEFF_ASSIGN_OR_RETURN(
      spec->activation,
      ReadActivation(config, "activation_function", "gelu_new"));
  QEFF_ASSIGN_OR_RETURN(const bool scaled,
                        config.BoolOr("scale_attn_weights", true));
  spec->attention_scale =
      scaled ? 1.0 / std::sqrt(static_cast<double>(spec->head_dim)) : 1.0;
  QEFF_ASSIGN_OR_RETURN(spec->tied_lm_head,
                        config.BoolOr("tie_word_embeddings", true));
  return absl::OkStatus();
}

absl::Status RefuseUnsupported(const JsonObjectReader& config,
                               const TransformerSpec& spec) {
  QEFF_RETURN_IF_ERROR(
      ExpectBool(config, "scale_attn_by_inverse_layer_idx", false));
  QEFF_RETURN_IF_ERROR(ExpectBool(config, "add_cross_attention", false));
  QEFF_ASSIGN_OR_RETURN(const int64_t head_dim,
                        config.IntOr("head_dim", spec.head_dim, 1, 0x7FFFFFFF));
  if (head_dim != spec.head_dim) {
    return config.Unexpected("head_dim",
                             absl::StrCat("n_embd / n_head = ", spec.head_dim));
  }
  return CheckLayerTypes(config, spec);
}

BlockNames NamesOfBlock(const TransformerSpec& spec, int64_t block,
                        const std::string& prefix) {
  const int64_t hidden = spec.hidden_size;
  BlockNames names;
  names.attention_norm = {prefix + "ln_1.weight", prefix + "ln_1.bias"};
  names.ffn_norm = {prefix + "ln_2.weight", prefix + "ln_2.bias"};
  const auto add = [&](const char* module, LinearRole role, int64_t out,
                       int64_t in) {
    names.linears.push_back({prefix + module, role, block, out, in,
                             /*has_bias=*/true, /*transposed=*/true});
  };
  add("attn.c_attn", LinearRole::kQkv, 3 * hidden, hidden);
  add("attn.c_proj", LinearRole::kO, hidden, hidden);
  add("mlp.c_fc", LinearRole::kUp, spec.ffn_size, hidden);
  add("mlp.c_proj", LinearRole::kDown, hidden, spec.ffn_size);
  return names;
}

}  // namespace

absl::StatusOr<ModelMap> MapGpt2(const JsonObjectReader& config,
                                 HasTensor has_tensor) {
  ModelMap map;
  const TransformerSpec& spec = map.spec;
  QEFF_RETURN_IF_ERROR(ReadConfig(config, &map.spec));
  QEFF_RETURN_IF_ERROR(RefuseUnsupported(config, spec));

  // The first published checkpoints were saved without the prefix.
  const std::string prefix = has_tensor("wte.weight") ? "" : "transformer.";
  map.token_embedding = prefix + "wte.weight";
  map.position_embedding = prefix + "wpe.weight";
  map.block_prefix = prefix + "h.";
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    map.blocks.push_back(
        NamesOfBlock(spec, i, absl::StrCat(map.block_prefix, i, ".")));
  }
  map.final_norm = {prefix + "ln_f.weight", prefix + "ln_f.bias"};
  map.lm_head = {"lm_head",           LinearRole::kLmHead, -1,
                 spec.vocab_size,     spec.hidden_size,    /*has_bias=*/false,
                 /*transposed=*/false};
  map.harmless_suffixes = {".attn.bias", ".attn.masked_bias"};
  return map;
}

}  // namespace qeff::internal_mappings
