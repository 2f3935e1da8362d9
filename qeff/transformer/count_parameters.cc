// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/count_parameters.h"

namespace qeff {

int64_t CountParameters(const ModelMap& map) {
  const TransformerSpec& spec = map.spec;
  int64_t count = spec.vocab_size * spec.hidden_size;
  if (!map.position_embedding.empty()) {
    count += spec.max_positions * spec.hidden_size;
  }
  for (const LinearModule& linear : map.Linears()) {
    count += linear.out_features * linear.in_features +
             (linear.has_bias ? linear.out_features : 0);
  }
  const auto norm = [&](const NormNames& names, int64_t size) {
    if (!names.weight.empty()) count += size;
    if (!names.bias.empty()) count += size;
  };
  for (const BlockNames& block : map.blocks) {
    norm(block.attention_norm, spec.hidden_size);
    norm(block.ffn_norm, spec.hidden_size);
    norm(block.q_norm, spec.head_dim);
    norm(block.k_norm, spec.head_dim);
  }
  norm(map.final_norm, spec.hidden_size);
  return count;
}

}  // namespace qeff
