// SPDX-License-Identifier: Apache-2.0
//
// The one description of a decoder-only transformer. It drives the host
// forward, the device engine, and every exporter: whatever changes a model's
// result is a field here, and nothing else is.
//
// A block computes, with x of [tokens, hidden_size]:
//   h = x + O(Attention(Q(n1(x)), K(n1(x)), V(n1(x))))
//   y = h + FFN(n2(h))
// with FFN(z) = Down(act(Gate(z)) * Up(z)) when gated, Down(act(Up(z))) else.
// The model computes logits = LmHead(final_norm(blocks(embedding[ids]))).

#ifndef QEFF_SPEC_TRANSFORMER_SPEC_H_
#define QEFF_SPEC_TRANSFORMER_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace qeff {

enum class NormKind : uint8_t {
  kRmsNorm,    // x / sqrt(mean(x^2) + epsilon) * weight
  kLayerNorm,  // (x - mean) / sqrt(variance + epsilon) * weight [+ bias]
};

enum class PositionKind : uint8_t {
  kRope,     // rotates halves (i, i + head_dim/2) of q and k
  kLearned,  // adds a row of a [max_positions, hidden] table to the input
  kAlibi,    // adds slope[head] * (key position - query position) to scores
};

enum class Activation : uint8_t {
  kSilu,      // x * sigmoid(x)
  kGelu,      // x * Phi(x), exact
  kGeluTanh,  // the tanh approximation, "gelu_new" and "gelu_pytorch_tanh"
  kRelu,
};

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3 };

// Parameters of rotary embeddings. Source: Su et al. 2021 (RoFormer); llama3
// scaling as Meta's Llama 3.1 release defines it.
struct RopeSpec {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;  // linear, llama3
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_positions = 0;  // llama3
};

struct TransformerSpec {
  // Hugging Face's model_type: "llama", "mistral", "qwen2", "qwen3", "gpt2",
  // "mpt". Names the mapping that reads and writes the weights; executors do
  // not look at it.
  std::string family;

  int64_t hidden_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // divides num_heads
  int64_t head_dim = 0;
  int64_t ffn_size = 0;
  int64_t vocab_size = 0;     // rows of the embedding
  int64_t max_positions = 0;  // longest sequence that the model was made for

  NormKind norm = NormKind::kRmsNorm;
  double norm_epsilon = 1e-5;
  bool norm_bias = false;

  PositionKind position = PositionKind::kRope;
  RopeSpec rope;
  double alibi_bias_max = 8.0;

  bool qk_norm = false;  // RMSNorm over head_dim of q and k, before rope
  bool qkv_bias = false;
  bool attention_output_bias = false;
  double attention_scale = 0.0;  // factor of q*k; set by the mapping
  double clip_qkv = 0.0;         // clamps q, k and v to +-this; 0 = off
  int64_t sliding_window = 0;    // keys a query sees, itself included; 0 = all

  Activation activation = Activation::kSilu;
  bool gated_ffn = true;
  bool ffn_bias = false;

  bool tied_lm_head = false;  // lm_head is the embedding

  // Special tokens of config.json; -1 when absent.
  int64_t bos_token_id = -1;
  std::vector<int64_t> eos_token_ids;

  int64_t q_size() const { return num_heads * head_dim; }
  int64_t kv_size() const { return num_kv_heads * head_dim; }

  // Weights of the linear layers of one block, in elements.
  int64_t block_linear_elems() const {
    return hidden_size * (q_size() * 2 + kv_size() * 2) +
           hidden_size * ffn_size * (gated_ffn ? 3 : 2);
  }
};

// Checks that the fields fit together: sizes from 1 to 2^31 - 1 (head_dim even
// with rope), num_kv_heads dividing num_heads, epsilon, theta, factors, scale
// and limits positive normal numbers of float32, special tokens inside the
// vocabulary. Errors are kInvalidArgument and name the field and its value.
absl::Status ValidateSpec(const TransformerSpec& spec);

// Angular frequencies of the head_dim/2 rotated pairs, in radians a position,
// in double precision, scaling applied. Precondition: position is kRope.
std::vector<double> RopeFrequencies(const TransformerSpec& spec);

// ALiBi slope of every head for any number of heads: geometric series for the
// next power of two above, odd then even entries when it is not one.
// Source: Press et al. 2021 ("Train Short, Test Long") with alibi_bias_max as
// MPT has it. Precondition: position is kAlibi.
std::vector<double> AlibiSlopes(const TransformerSpec& spec);

}  // namespace qeff

#endif  // QEFF_SPEC_TRANSFORMER_SPEC_H_
