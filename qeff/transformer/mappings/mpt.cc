// SPDX-License-Identifier: Apache-2.0

#include <cmath>

#include "absl/strings/str_cat.h"
#include "qeff/transformer/mappings/config_fields.h"
#include "qeff/transformer/mappings/families.h"
#include "qeff/util/status.h"

namespace qeff::internal_mappings {
namespace {

// Keys of attn_config, whose defaults are those of transformers.
absl::Status ReadAttention(const JsonObjectReader& attention,
                           TransformerSpec* spec) {
  constexpr absl::string_view kTypes[] = {"multihead_attention"};
  QEFF_RETURN_IF_ERROR(ExpectOneOf(attention, "attn_type", kTypes));
  QEFF_RETURN_IF_ERROR(ExpectBool(attention, "alibi", true));
  for (const char* key : {"qk_ln", "qk_gn", "prefix_lm", "rope"}) {
    QEFF_RETURN_IF_ERROR(ExpectBool(attention, key, false));
  }
  QEFF_ASSIGN_OR_RETURN(
      const int64_t window,
      attention.IntOr("sliding_window_size", -1, INT32_MIN, INT32_MAX));
  if (window != -1) return Unsupported(attention, "sliding_window_size", "-1");
  QEFF_ASSIGN_OR_RETURN(spec->alibi_bias_max,
                        PositiveOr(attention, "alibi_bias_max", 8.0));
  QEFF_ASSIGN_OR_RETURN(spec->clip_qkv, attention.NumberOr("clip_qkv", 0.0));
  if (spec->clip_qkv < 0) {
    return attention.Unexpected("clip_qkv", "null or a number above 0");
  }
  QEFF_ASSIGN_OR_RETURN(
      spec->attention_scale,
      PositiveOr(attention, "softmax_scale", spec->attention_scale));
  return absl::OkStatus();
}

absl::Status ReadFfnSize(const JsonObjectReader& config,
                         TransformerSpec* spec) {
  QEFF_ASSIGN_OR_RETURN(const double ratio,
                        PositiveOr(config, "expansion_ratio", 4.0));
  const double size = ratio * static_cast<double>(spec->hidden_size);
  if (size < 1 || size > 0x7FFFFFFF || size != std::floor(size)) {
    return config.Unexpected(
        "expansion_ratio",
        absl::StrCat("a factor of d_model = ", spec->hidden_size,
                     " that gives a whole size"));
  }
  spec->ffn_size = static_cast<int64_t>(size);
  return absl::OkStatus();
}

absl::Status ReadConfig(const JsonObjectReader& config, TransformerSpec* spec) {
  spec->norm = NormKind::kLayerNorm;
  spec->norm_bias = false;
  spec->position = PositionKind::kAlibi;
  spec->activation = Activation::kGelu;
  spec->gated_ffn = false;
  QEFF_ASSIGN_OR_RETURN(spec->hidden_size,
                        SizeOrAlias(config, "d_model", "hidden_size"));
  QEFF_ASSIGN_OR_RETURN(spec->num_layers,
                        NumLayers(config, "n_layers", "num_hidden_layers"));
  QEFF_ASSIGN_OR_RETURN(spec->num_heads,
                        SizeOrAlias(config, "n_heads", "num_attention_heads"));
  QEFF_ASSIGN_OR_RETURN(spec->vocab_size, Size(config, "vocab_size"));
  QEFF_ASSIGN_OR_RETURN(spec->max_positions,
                        MaxPositions(config, "max_seq_len", 2048));
  spec->num_kv_heads = spec->num_heads;
  QEFF_ASSIGN_OR_RETURN(
      spec->head_dim,
      DividedHeadDim(config, "n_heads", spec->hidden_size, spec->num_heads));
  spec->attention_scale = 1.0 / std::sqrt(static_cast<double>(spec->head_dim));
  QEFF_RETURN_IF_ERROR(ReadFfnSize(config, spec));
  QEFF_ASSIGN_OR_RETURN(spec->norm_epsilon,
                        PositiveOr(config, "layer_norm_epsilon", 1e-5));
  QEFF_ASSIGN_OR_RETURN(spec->tied_lm_head,
                        config.BoolOr("tie_word_embeddings", true));
  QEFF_ASSIGN_OR_RETURN(const auto attention, config.ObjectOr("attn_config"));
  if (attention.has_value()) {
    QEFF_RETURN_IF_ERROR(ReadAttention(*attention, spec));
  }
  return absl::OkStatus();
}

absl::Status RefuseUnsupported(const JsonObjectReader& config,
                               const TransformerSpec& spec) {
  constexpr absl::string_view kNorms[] = {"layernorm",
                                          "low_precision_layernorm"};
  QEFF_RETURN_IF_ERROR(ExpectOneOf(config, "norm_type", kNorms));
  QEFF_RETURN_IF_ERROR(ExpectBool(config, "no_bias", true));
  QEFF_RETURN_IF_ERROR(ExpectNothing(config, "logit_scale"));
  QEFF_ASSIGN_OR_RETURN(const auto ffn, config.ObjectOr("ffn_config"));
  if (ffn.has_value()) {
    constexpr absl::string_view kFfns[] = {"mptmlp"};
    QEFF_RETURN_IF_ERROR(ExpectOneOf(*ffn, "ffn_type", kFfns));
    QEFF_RETURN_IF_ERROR(ExpectNothing(*ffn, "ffn_act_fn"));
  }
  QEFF_ASSIGN_OR_RETURN(const int64_t head_dim,
                        config.IntOr("head_dim", spec.head_dim, 1, 0x7FFFFFFF));
  if (head_dim != spec.head_dim) {
    return config.Unexpected(
        "head_dim", absl::StrCat("d_model / n_heads = ", spec.head_dim));
  }
  return CheckLayerTypes(config, spec);
}

BlockNames NamesOfBlock(const TransformerSpec& spec, int64_t block,
                        const std::string& prefix) {
  const int64_t hidden = spec.hidden_size;
  BlockNames names;
  names.attention_norm.weight = prefix + "norm_1.weight";
  names.ffn_norm.weight = prefix + "norm_2.weight";
  const auto add = [&](const char* module, LinearRole role, int64_t out,
                       int64_t in) {
    names.linears.push_back({prefix + module, role, block, out, in,
                             /*has_bias=*/false, /*transposed=*/false});
  };
  add("attn.Wqkv", LinearRole::kQkv, 3 * hidden, hidden);
  add("attn.out_proj", LinearRole::kO, hidden, hidden);
  add("ffn.up_proj", LinearRole::kUp, spec.ffn_size, hidden);
  add("ffn.down_proj", LinearRole::kDown, hidden, spec.ffn_size);
  return names;
}

}  // namespace

absl::StatusOr<ModelMap> MapMpt(const JsonObjectReader& config,
                                HasTensor has_tensor) {
  ModelMap map;
  const TransformerSpec& spec = map.spec;
  QEFF_RETURN_IF_ERROR(ReadConfig(config, &map.spec));
  QEFF_RETURN_IF_ERROR(RefuseUnsupported(config, spec));

  const std::string prefix = has_tensor("wte.weight") ? "" : "transformer.";
  map.token_embedding = prefix + "wte.weight";
  map.block_prefix = prefix + "blocks.";
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    map.blocks.push_back(
        NamesOfBlock(spec, i, absl::StrCat(map.block_prefix, i, ".")));
  }
  map.final_norm.weight = prefix + "norm_f.weight";
  map.lm_head = {"lm_head",           LinearRole::kLmHead, -1,
                 spec.vocab_size,     spec.hidden_size,    /*has_bias=*/false,
                 /*transposed=*/false};
  return map;
}

}  // namespace qeff::internal_mappings
