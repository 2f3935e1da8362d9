// SPDX-License-Identifier: Apache-2.0
//
// A model: its spec and its weights, which stay in the mapped checkpoint until
// they are asked for. Weights are handed out as float32 in the layout that
// products want, whatever the checkpoint holds: fused matrices are split,
// transposed ones turned, quantized ones dequantized. To run a model see
// host_forward.h.
//
//   auto checkpoint = Checkpoint::Open(folder);
//   auto model = Transformer::Load(*checkpoint);
//   auto block = (*model)->LoadBlock(0);   // block->down.weight is [hidden,
//   ffn]
//   (*model)->ReleaseBlock(0);

#ifndef QEFF_TRANSFORMER_TRANSFORMER_H_
#define QEFF_TRANSFORMER_TRANSFORMER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/quantization_config.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/model_map.h"

namespace qeff {

class WeightReader;

// y = x W^T + b. `weight` is [out, in]; `bias` is empty when there is none.
struct LinearWeights {
  Matrix<float> weight;
  std::vector<float> bias;
};

// `bias` is empty when there is none; both are when there is no norm.
struct NormWeights {
  std::vector<float> weight;
  std::vector<float> bias;
};

// The weights of one block. q_norm and k_norm are empty without qk_norm, gate
// without gated_ffn.
struct BlockWeights {
  NormWeights attention_norm;
  NormWeights ffn_norm;
  NormWeights q_norm;
  NormWeights k_norm;
  LinearWeights q;
  LinearWeights k;
  LinearWeights v;
  LinearWeights o;
  LinearWeights gate;
  LinearWeights up;
  LinearWeights down;
};

// A checked model. Thread-safe; returned values are the caller's. Errors of
// the Load functions after Load: kResourceExhausted when memory is out, and
// those of reading a quantized tensor. Values are not checked: NaN and
// infinity pass through.
class Transformer {
 public:
  // Maps the configuration and checks that every tensor exists with the right
  // type and shape, and that none is left over, without reading any but the
  // scales of quantized layers. Errors, each naming config.json's key or the
  // tensor: those of MapModel and ParseQuantizationConfig; kNotFound
  // for a missing tensor; kInvalidArgument for a wrong shape (with both), a
  // dtype that is not floating, a tensor that the model does not use, or a
  // number of layers other than config.json's (with both).
  static absl::StatusOr<std::shared_ptr<const Transformer>> Load(
      std::shared_ptr<const Checkpoint> checkpoint);

  const TransformerSpec& spec() const { return map_.spec; }
  const ModelMap& map() const { return map_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const std::shared_ptr<const Checkpoint>& shared_checkpoint() const {
    return checkpoint_;
  }
  // How linear layers are stored; nullopt when none is quantized.
  const absl::optional<QuantizationConfig>& quantization() const {
    return quantization_;
  }

  // The weights of linear layer `role` of `block`. kQ, kK and kV are parts of
  // the fused matrix where the checkpoint has one; kQkv is the whole of it
  // (precondition: there is one). kLmHead (block -1) is the embedding when
  // tied. Precondition (checked): the model has such a layer.
  absl::StatusOr<LinearWeights> LoadLinear(int64_t block,
                                           LinearRole role) const;

  // Rows [begin, begin + count) of the same matrix and the bias of these rows:
  // for matrices that are better not held whole.
  absl::StatusOr<LinearWeights> LoadLinearRows(int64_t block, LinearRole role,
                                               int64_t begin,
                                               int64_t count) const;

  // The bias alone; empty when there is none. Precondition as for LoadLinear.
  absl::StatusOr<std::vector<float>> LoadLinearBias(int64_t block,
                                                    LinearRole role) const;

  // [out, in] of linear layer `role`. Precondition as for LoadLinear.
  Shape LinearShape(int64_t block, LinearRole role) const;

  // Norms only: q .. down stay empty.
  absl::StatusOr<BlockWeights> LoadBlockNorms(int64_t block) const;

  // All weights of a block. Precondition: 0 <= block < num_layers.
  absl::StatusOr<BlockWeights> LoadBlock(int64_t block) const;

  // Lets go of the mapped pages of a block's tensors, or of those of lm_head
  // (-1; the embedding when tied). Loading them again is always possible.
  void ReleaseBlock(int64_t block) const;

  absl::StatusOr<NormWeights> LoadFinalNorm() const;

  // The embedding [vocab_size, hidden_size], and that of learned positions
  // [max_positions, hidden_size] (precondition: position is kLearned).
  absl::StatusOr<Matrix<float>> LoadTokenEmbedding() const;
  absl::StatusOr<Matrix<float>> LoadPositionEmbedding() const;
  // Rows [begin, begin + count) of the first. Precondition: they exist.
  absl::StatusOr<Matrix<float>> LoadTokenEmbeddingRows(int64_t begin,
                                                       int64_t count) const;

  // Writes the embedding of token ids[i], plus that of position i with learned
  // positions, into row i of `out` [ids.size(), hidden_size]: the input of
  // block 0 for one sequence. Reads only the rows that occur. Errors: as
  // CheckTokens.
  absl::Status Embed(absl::Span<const int32_t> ids,
                     MatrixView<float> out) const;

  // kInvalidArgument unless `ids` is a sequence that the model can take: not
  // empty, every id below vocab_size (the message names index, id and bound),
  // and no longer than learned positions reach.
  absl::Status CheckTokens(absl::Span<const int32_t> ids) const;

 private:
  Transformer(std::shared_ptr<const Checkpoint> checkpoint, ModelMap map,
              absl::optional<QuantizationConfig> quantization)
      : checkpoint_(std::move(checkpoint)),
        map_(std::move(map)),
        quantization_(std::move(quantization)) {}

  WeightReader Reader() const;

  // All of a tensor of [rows, hidden_size].
  absl::StatusOr<Matrix<float>> LoadPlainMatrix(const std::string& name,
                                                int64_t rows) const;

  std::shared_ptr<const Checkpoint> checkpoint_;
  ModelMap map_;
  absl::optional<QuantizationConfig> quantization_;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_TRANSFORMER_H_
