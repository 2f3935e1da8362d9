// SPDX-License-Identifier: Apache-2.0
//
// What Llama and its relatives (Mistral, Qwen2, Qwen3) share: RMSNorm, rotary
// positions, a gated feed-forward, and the names of keys and tensors.

#ifndef QEFF_TRANSFORMER_MAPPINGS_LLAMA_LIKE_H_
#define QEFF_TRANSFORMER_MAPPINGS_LLAMA_LIKE_H_

#include "absl/status/status.h"
#include "qeff/transformer/mappings/families.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/json.h"

namespace qeff::internal_mappings {

// What transformers assumes where a key is missing.
struct LlamaLikeDefaults {
  int64_t max_positions;
  int64_t head_dim = 0;  // 0: hidden_size / num_attention_heads
};

// Reads the shared keys into `spec`. Biases, sliding window and q/k norms are
// left at their defaults.
absl::Status ReadLlamaLike(const JsonObjectReader& config,
                           const LlamaLikeDefaults& defaults,
                           TransformerSpec* spec);

// Fills in the names for map->spec, which is complete.
void NameLlamaLike(HasTensor has_tensor, ModelMap* map);

}  // namespace qeff::internal_mappings

#endif  // QEFF_TRANSFORMER_MAPPINGS_LLAMA_LIKE_H_
