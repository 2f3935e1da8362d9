// SPDX-License-Identifier: Apache-2.0
//
// From a checkpoint to a TransformerSpec and the names of its weights: one
// mapping file per model family (mappings/), looked up by config.json's
// model_type. Reads no weights.

#ifndef QEFF_TRANSFORMER_MODEL_MAP_H_
#define QEFF_TRANSFORMER_MODEL_MAP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/io/checkpoint.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/util/json.h"

namespace qeff {

// What a linear layer computes within its block.
enum class LinearRole : uint8_t {
  kQ,
  kK,
  kV,
  kQkv,  // one fused matrix: rows of q, then k, then v
  kO,
  kGate,
  kUp,
  kDown,
  kLmHead,
};

// A linear layer y = x W^T + b as the checkpoint stores it: the tensor
// `module + ".weight"` (or a quantized form of it) and, with has_bias,
// `module + ".bias"`.
struct LinearModule {
  std::string module;  // such as "model.layers.0.self_attn.q_proj"
  LinearRole role;
  int64_t block;  // -1 for lm_head
  int64_t out_features;
  int64_t in_features;
  bool has_bias;
  // Stored as [in, out] (GPT-2's Conv1D) instead of [out, in].
  bool transposed;
};

// Names of the tensors of a norm; bias is empty when there is none.
struct NormNames {
  std::string weight;
  std::string bias;
};

struct BlockNames {
  NormNames attention_norm;
  NormNames ffn_norm;
  NormNames q_norm;  // empty names without qk_norm
  NormNames k_norm;
  std::vector<LinearModule> linears;  // in the order that they are computed
};

struct ModelMap {
  TransformerSpec spec;
  std::string token_embedding;     // tensor [vocab, hidden]
  std::string position_embedding;  // tensor [positions, hidden] or empty
  std::vector<BlockNames> blocks;
  NormNames final_norm;
  // The lm_head; its module is meaningful when !spec.tied_lm_head only.
  LinearModule lm_head;

  // Tensors of block b begin with block_prefix + b + ".".
  std::string block_prefix;
  // Ends of the names of tensors that checkpoints of the family carry although
  // the model does not read them (masks, tables that are computed).
  std::vector<std::string> harmless_suffixes;

  // All linear layers: of the blocks in order, then lm_head unless tied.
  std::vector<LinearModule> Linears() const;
};

// Reads config.json and finds the names. Errors (kInvalidArgument, or
// kUnimplemented for something known that is not supported) name config.json,
// the key and its value: an unknown model_type (with the supported ones), a
// size that is missing, not an integer or out of range, heads that do not
// divide, and any value that would change the result but is not understood.
// Whether the tensors exist is checked when they are read.
absl::StatusOr<ModelMap> MapModel(const Checkpoint& checkpoint);

// The same for a config.json that was parsed already. `context` (its path)
// begins every error; has_tensor(name) says whether the checkpoint has a
// tensor, by which optional prefixes of names are found.
absl::StatusOr<ModelMap> MapConfig(
    const Json& config, const std::string& context,
    absl::FunctionRef<bool(absl::string_view name)> has_tensor);

// The values of model_type that MapModel takes, ordered.
std::vector<std::string> SupportedModelTypes();

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_MODEL_MAP_H_
