// SPDX-License-Identifier: Apache-2.0
//
// A TransformerSpec as an ONNX graph. Two kinds:
//
// CausalLmGraph, one graph for prefill and decode, with QEfficient's inputs
// and outputs. Batch, length and context are open:
//   input_ids, position_ids   int64 [batch_size, seq_len]; a position of -1
//                             is padding, behind the tokens
//   past_key.i, past_value.i  float [batch_size, kv_heads, ctx_len, head_dim]
//   logits                    float [batch_size, 1, vocab_size], of the token
//                             with the largest position
//   past_key.i_RetainedState, past_value.i_RetainedState   as past_key.i
//
// HiddenStatesGraph, without a cache:
//   input_ids, attention_mask int64 [batch_size, seq_len]; a mask of 0 is
//                             padding, behind the tokens
//   output                    float [batch_size, seq_len, hidden_size] after
//                             the last norm, or one row a sequence

#ifndef QEFF_EXPORT_ONNX_DECODER_GRAPH_H_
#define QEFF_EXPORT_ONNX_DECODER_GRAPH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "qeff/export/onnx/onnx_data.h"
#include "qeff/export/onnx/onnx_graph.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// For whom a graph is. The two differ in constants only.
enum class OnnxVariant : uint8_t {
  // Cloud AI's compiler: what must not be read or written has the largest
  // index, which the card skips.
  kAic,
  // Every other runtime: these have index 0 or -1. What is read there is
  // replaced, and what is written there is padding: the last slot of the
  // cache must not be in use while a sequence is padded.
  kPortable,
};

struct CausalLmOptions {
  OnnxVariant variant = OnnxVariant::kPortable;
  // The cache has full_batch_size slots, of which input batch_index
  // [batch_size, 1] says those of the batch: continuous batching.
  bool continuous_batching = false;
  // As a target of speculative decoding: input num_logits_to_keep [n, 1] says
  // by its length of how many tokens the logits are, which are
  // [batch_size, n, vocab_size] then, the last one as above.
  bool speculative_target = false;
  // Input comp_ctx_lengths [n] says by its length how much of the context is
  // attended to.
  bool compute_context_lengths = false;
};

// Inputs and outputs of the cache, in the order key 0, value 0, key 1, ...
std::vector<std::string> CacheNames(const TransformerSpec& spec);

// Adds the graph of `model` to the empty `graph`, and its weights to `data`.
// `names_dequantized` gets the layers whose codes no operator takes. Errors:
// those of reading a quantized tensor.
absl::Status BuildCausalLm(const Transformer& model,
                           const CausalLmOptions& options, OnnxGraph* graph,
                           OnnxData* data,
                           std::vector<std::string>* names_dequantized);

// How the rows of a sequence become one.
enum class OnnxPooling : uint8_t { kNone, kMean, kLast, kCls };

absl::Status BuildHiddenStates(const Transformer& model, OnnxPooling pooling,
                               OnnxGraph* graph, OnnxData* data,
                               std::vector<std::string>* names_dequantized);

}  // namespace qeff

#endif  // QEFF_EXPORT_ONNX_DECODER_GRAPH_H_
