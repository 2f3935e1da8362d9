// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/gguf_names.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace qeff {
namespace {

struct NamePair {
  absl::string_view gguf;
  absl::string_view hugging_face;
};

// The names of an architecture, without ".weight" and ".bias".
struct Names {
  std::vector<NamePair> top;
  absl::string_view block_prefix;  // before a block's number
  std::vector<NamePair> block;     // inside of one
  bool has_biases;
};

const Names& LlamaNames() {
  static const Names& names =
      *new Names{{{"token_embd", "model.embed_tokens"},
                  {"output_norm", "model.norm"},
                  {"output", "lm_head"}},
                 "model.layers.",
                 {{"attn_norm", "input_layernorm"},
                  {"attn_q", "self_attn.q_proj"},
                  {"attn_k", "self_attn.k_proj"},
                  {"attn_v", "self_attn.v_proj"},
                  {"attn_output", "self_attn.o_proj"},
                  {"attn_q_norm", "self_attn.q_norm"},
                  {"attn_k_norm", "self_attn.k_norm"},
                  {"ffn_norm", "post_attention_layernorm"},
                  {"ffn_gate", "mlp.gate_proj"},
                  {"ffn_up", "mlp.up_proj"},
                  {"ffn_down", "mlp.down_proj"}},
                 true};
  return names;
}

const Names& Gpt2Names() {
  static const Names& names = *new Names{{{"token_embd", "transformer.wte"},
                                          {"position_embd", "transformer.wpe"},
                                          {"output_norm", "transformer.ln_f"},
                                          {"output", "lm_head"}},
                                         "transformer.h.",
                                         {{"attn_norm", "ln_1"},
                                          {"attn_qkv", "attn.c_attn"},
                                          {"attn_output", "attn.c_proj"},
                                          {"ffn_norm", "ln_2"},
                                          {"ffn_up", "mlp.c_fc"},
                                          {"ffn_down", "mlp.c_proj"}},
                                         true};
  return names;
}

const Names& MptNames() {
  static const Names& names = *new Names{{{"token_embd", "transformer.wte"},
                                          {"output_norm", "transformer.norm_f"},
                                          {"output", "lm_head"}},
                                         "transformer.blocks.",
                                         {{"attn_norm", "norm_1"},
                                          {"attn_qkv", "attn.Wqkv"},
                                          {"attn_output", "attn.out_proj"},
                                          {"ffn_norm", "norm_2"},
                                          {"ffn_up", "ffn.up_proj"},
                                          {"ffn_down", "ffn.down_proj"}},
                                         false};
  return names;
}

// The second of the pair whose first is `name`, or empty.
absl::string_view Find(const std::vector<NamePair>& pairs,
                       absl::string_view name) {
  for (const NamePair& pair : pairs) {
    if (name == pair.gguf) return pair.hugging_face;
  }
  return "";
}

}  // namespace

std::string HuggingFaceName(absl::string_view architecture,
                            absl::string_view name) {
  const Names& names = architecture == "gpt2"  ? Gpt2Names()
                       : architecture == "mpt" ? MptNames()
                                               : LlamaNames();
  const size_t last = name.rfind('.');
  if (last == absl::string_view::npos) return "";
  const absl::string_view suffix = name.substr(last);
  absl::string_view module = name.substr(0, last);
  if (suffix != ".weight" && !(names.has_biases && suffix == ".bias")) {
    return "";
  }
  if (!absl::ConsumePrefix(&module, "blk.")) {
    const absl::string_view found = Find(names.top, module);
    return found.empty() ? "" : absl::StrCat(found, suffix);
  }
  const size_t dot = module.find('.');
  if (dot == absl::string_view::npos) return "";
  int64_t block = 0;
  if (!absl::SimpleAtoi(module.substr(0, dot), &block)) return "";
  const absl::string_view found = Find(names.block, module.substr(dot + 1));
  if (found.empty()) return "";
  return absl::StrCat(names.block_prefix, module.substr(0, dot), ".", found,
                      suffix);
}

bool IsStoredTransposed(absl::string_view architecture,
                        absl::string_view hugging_face_name) {
  return architecture == "gpt2" &&
         absl::StartsWith(hugging_face_name, Gpt2Names().block_prefix) &&
         (absl::StrContains(hugging_face_name, ".attn.c_") ||
          absl::StrContains(hugging_face_name, ".mlp.c_")) &&
         absl::EndsWith(hugging_face_name, ".weight");
}

}  // namespace qeff
