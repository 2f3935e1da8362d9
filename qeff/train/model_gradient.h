// SPDX-License-Identifier: Apache-2.0
//
// The gradient of a loss in all weights of a model, over a batch of text: the
// whole model, where qeff/transformer has its parts.
//
//   ModelGradient model(spec, /*max_length=*/256, {}, pool);
//   CrossEntropy loss(...);
//   ModelWeights gradient = ZerosLike(weights);
//   QEFF_RETURN_IF_ERROR(model.Run(weights, batch, loss, gradient));

#ifndef QEFF_TRAIN_MODEL_GRADIENT_H_
#define QEFF_TRAIN_MODEL_GRADIENT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/train/model_weights.h"
#include "qeff/train/token_batch.h"
#include "qeff/transformer/block_backward.h"
#include "qeff/transformer/matrix_buffer.h"
#include "qeff/transformer/rope.h"

namespace qeff {

// A loss, as the way back through the model meets it. Rows are those of the
// batch. Called in the calling thread, from the end of the model to its
// beginning; adds up its own value.
class ModelLoss {
 public:
  virtual ~ModelLoss() = default;

  // Replaces the logits [rows, vocab_size] of rows [row, row + rows) by the
  // gradient in them. Rows come in order, each once.
  virtual void AtLogits(int64_t row, MatrixView<float> logits) = 0;

  // Adds to dx the gradient in x [tokens, hidden_size], what block `layer`
  // gives (its residual stream, before any final norm).
  virtual bool WantsHidden(int64_t /*layer*/) const { return false; }
  virtual void AtHidden(int64_t /*layer*/, MatrixView<const float> /*x*/,
                        MatrixView<float> /*dx*/) {}

  // Adds to dq and dk the gradients in q [tokens, q_size] and k
  // [tokens, kv_size] of block `layer`, as attention takes them.
  virtual bool WantsHeads(int64_t /*layer*/) const { return false; }
  virtual void AtHeads(int64_t /*layer*/, MatrixView<const float> /*q*/,
                       MatrixView<const float> /*k*/, MatrixView<float> /*dq*/,
                       MatrixView<float> /*dk*/) {}
};

struct ModelGradientOptions {
  // Keeps the inputs of the blocks only, and computes the rest again on the way
  // back: one block's activations instead of all, for a third more work.
  bool recompute = false;
  // Tokens whose logits are held at a time.
  int64_t logit_rows = 256;
  // Called between blocks and between pieces of logits: an error ends Run and
  // Evaluate, which return it. May be null.
  std::function<absl::Status()> check;
};

// Not thread-safe. All methods throw std::bad_alloc. Errors: those of
// ModelGradientOptions::check; what was added until then means nothing. Memory:
// 4 bytes * hidden_size * (num_layers + 3) a token, and what BlockActivations
// says for each block (one with recompute). Numerics: the same bits for any
// number of threads, with recompute or not.
class ModelGradient {
 public:
  // Segments of up to `max_length` tokens (at most max_positions with learned
  // positions). `spec` and `pool` are borrowed.
  ModelGradient(const TransformerSpec& spec, int64_t max_length,
                const ModelGradientOptions& options, ThreadPool* pool);

  // Adds the gradients of `loss` in `weights` for `batch` to `gradient`. When
  // those of a part are complete, calls done, unless null, with the part:
  // num_layers for the final norm and an untied lm_head, then the blocks from
  // the last, then -1 for the embeddings. Preconditions (checked): the batch
  // fits; ids are below vocab_size.
  absl::Status Run(const ModelWeights& weights, const TokenBatch& batch,
                   ModelLoss& loss, ModelWeights& gradient,
                   const std::function<void(int64_t part)>& done = nullptr);

  // Forward only: calls loss.AtLogits, and drops what it gives.
  absl::Status Evaluate(const ModelWeights& weights, const TokenBatch& batch,
                        ModelLoss& loss);

  // "the embeddings" or "the output of block 3": the first of the last batch
  // that is not finite. Empty where all are.
  std::string FirstBadOutput();

 private:
  absl::Status Check() const {
    return options_.check ? options_.check() : absl::OkStatus();
  }
  absl::Status Forward(const ModelWeights& weights, const TokenBatch& batch,
                       bool keep);
  // x_[layer] is the input of block `layer`.
  MatrixView<float> x(int64_t layer) {
    return x_[static_cast<size_t>(layer)].view();
  }
  absl::Status BackwardHead(const ModelWeights& weights, ModelLoss& loss,
                            MatrixView<float> dx, ModelWeights& gradient);

  const TransformerSpec& spec_;
  const ModelGradientOptions options_;
  ThreadPool* const pool_;
  RopeTable rope_;
  std::vector<float> alibi_;
  DifferentiableBlock block_;
  SgemmScratch products_;
  std::vector<MatrixBuffer> x_;  // inputs of the blocks, and of the final norm
  std::vector<BlockActivations> kept_;
  MatrixBuffer dx_, hidden_, logits_, unused_;
};

}  // namespace qeff

#endif  // QEFF_TRAIN_MODEL_GRADIENT_H_
