// SPDX-License-Identifier: Apache-2.0
//
// All weights of a model in memory as float32: what training changes. To run a
// model whose weights stay, load a Transformer (qeff/transformer).

#ifndef QEFF_TRAIN_MODEL_WEIGHTS_H_
#define QEFF_TRAIN_MODEL_WEIGHTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Also the gradients and other values that there is one of for each weight.
struct ModelWeights {
  Matrix<float> tokens;     // [vocab_size, hidden_size]
  Matrix<float> positions;  // [max_positions, hidden_size] or empty
  std::vector<BlockWeights> blocks;
  NormWeights final_norm;
  Matrix<float> lm_head;  // [vocab_size, hidden_size]; empty when tied

  const Matrix<float>& lm_head_table() const {
    return lm_head.empty() ? tokens : lm_head;
  }
  Matrix<float>& lm_head_table() { return lm_head.empty() ? tokens : lm_head; }
};

// One tensor of ModelWeights. Vectors have one row.
struct Parameter {
  // Of qeff's own and the same for all families: "tokens", "positions",
  // "blocks.3.q.weight", "blocks.3.q.bias", "blocks.3.attention_norm.weight",
  // "final_norm.weight", "lm_head".
  std::string name;
  int64_t rows;
  int64_t cols;
  absl::Span<float> values;
  bool matrix = false;
  int64_t block = -1;  // -1: of none
  // The matrix of a linear layer of a block: what is quantized, pruned or
  // adapted.
  bool is_block_linear = false;
  LinearRole role = LinearRole::kLmHead;  // with is_block_linear
};

// Every tensor that is there, always in the same order: tokens, positions,
// blocks, final norm, lm_head. They are borrowed.
std::vector<Parameter> Parameters(ModelWeights& weights);

// Elements in all.
int64_t CountElems(ModelWeights& weights);

// Errors: those of reading the model; kDataLoss naming the tensor for a weight
// that is not finite.
absl::StatusOr<ModelWeights> LoadModelWeights(const Transformer& model);

// Random weights to train from scratch: linear layers and embeddings normal
// with a standard deviation of .02, those that write to the residual stream (o
// and down) of .02 / sqrt(2 num_layers); norms 1; biases 0.
// Source: Radford et al. 2019 (GPT-2), section 2.3.
ModelWeights InitialWeights(const TransformerSpec& spec, uint64_t seed);

// Zeros in the shapes of `weights`.
ModelWeights ZerosLike(const ModelWeights& weights);

}  // namespace qeff

#endif  // QEFF_TRAIN_MODEL_WEIGHTS_H_
