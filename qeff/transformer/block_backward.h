// SPDX-License-Identifier: Apache-2.0
//
// One block that can be differentiated: for solvers that fit a block's weights
// and for training. Its products take the weights as they are; to run weights
// that stay, HostBlock packs them.
//
//   DifferentiableBlock block({&spec, pool, &rope, alibi});
//   BlockWeights gradient = ZerosLike(weights);
//   block.Run(weights, lengths, x, /*chunk_tokens=*/1024,
//             [&](int64_t row, MatrixView<const float> y,
//                 MatrixView<float> dy) { /* dy = d loss / d y */ },
//             dx, gradient);

#ifndef QEFF_TRANSFORMER_BLOCK_BACKWARD_H_
#define QEFF_TRANSFORMER_BLOCK_BACKWARD_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/attention_backward.h"
#include "qeff/transformer/matrix_buffer.h"
#include "qeff/transformer/rope.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// What a block needs besides its weights. Everything is borrowed.
struct BlockContext {
  const TransformerSpec* spec = nullptr;
  ThreadPool* pool = nullptr;
  const RopeTable* rope = nullptr;     // with rope: all positions
  absl::Span<const float> alibi = {};  // with ALiBi: a slope per head
};

// What Forward keeps of its rows for Backward; memory is used again by the next
// Forward. A token takes about
//   4 bytes * (3 hidden_size + 2 q_size + 2 kv_size + 3 ffn_size)
// (2 ffn_size when not gated; q_size + kv_size more where q and k are both
// rotated and clipped or normed). Movable.
class BlockActivations {
 private:
  friend class DifferentiableBlock;

  std::vector<int64_t> lengths_;
  MatrixBuffer input_;              // of q, k and v: the first norm
  MatrixBuffer q_, k_, v_;          // clipped
  MatrixBuffer heads_q_, heads_k_;  // with norm and rope; unused where the same
  MatrixBuffer attention_;          // input of o
  MatrixBuffer middle_;             // x plus the attention's output
  MatrixBuffer ffn_input_;          // of gate and up: the second norm
  MatrixBuffer gate_, up_;
  MatrixBuffer inner_;  // input of down
};

// Zeros in the shapes of `weights`.
BlockWeights ZerosLike(const BlockWeights& weights);

// Not thread-safe. `weights` have the shapes of the spec (checked), as have
// `gradient`s, which are added to. x, y, dy and dx are [tokens, hidden_size]
// for sequences of `lengths` tokens, one after another, each from position 0.
// All methods throw std::bad_alloc when memory is out.
//
// Numerics: as HostBlock to rounding; the same bits for any number of threads.
class DifferentiableBlock {
 public:
  explicit DifferentiableBlock(const BlockContext& context);

  // y = block(x). y may be x where x is kept elsewhere for Backward.
  void Forward(const BlockWeights& weights, absl::Span<const int64_t> lengths,
               MatrixView<const float> x, MatrixView<float> y,
               BlockActivations& kept);

  // Of a loss with the gradient dy in y: sets dx, which may be dy, to the
  // gradient in x, and adds those of weights, biases and norms to `gradient`.
  // An empty dx is not computed. x, `weights` and `kept` are those of Forward;
  // `kept` is used up. `heads`, unless null, is called with q and k as
  // attention takes them, normed and rotated, and adds to the gradients in
  // them, for losses of attention's weights.
  using HeadsGradient =
      std::function<void(MatrixView<const float> q, MatrixView<const float> k,
                         MatrixView<float> dq, MatrixView<float> dk)>;
  void Backward(const BlockWeights& weights, MatrixView<const float> x,
                MatrixView<const float> dy, BlockActivations& kept,
                MatrixView<float> dx, BlockWeights& gradient,
                const HeadsGradient& heads = nullptr);

  // Both, for chunks of whole sequences of at most `chunk_tokens` tokens (at
  // least one sequence): memory for what is kept and for gradients follows the
  // chunk. loss(row, y, dy) is called with the result for rows [row, row +
  // y.rows()) of x and sets dy. To recompute a block instead of keeping it, it
  // copies the rows of a dy that is there; dx may be that dy, or x.
  using OutputGradient = absl::FunctionRef<void(
      int64_t row, MatrixView<const float> y, MatrixView<float> dy)>;
  void Run(const BlockWeights& weights, absl::Span<const int64_t> lengths,
           MatrixView<const float> x, int64_t chunk_tokens, OutputGradient loss,
           MatrixView<float> dx, BlockWeights& gradient);

 private:
  // Where attention takes q and k from.
  struct Heads {
    MatrixView<float> q, k;
  };
  bool HasSeparateHeads() const;
  Heads HeadsOf(const BlockActivations& kept) const;

  void ForwardAttention(const BlockWeights& weights, MatrixView<const float> x,
                        BlockActivations& kept);
  void ForwardHeads(const BlockWeights& weights, BlockActivations& kept);
  void ForwardFfn(const BlockWeights& weights, MatrixView<float> y,
                  BlockActivations& kept);

  // From dy to the gradient in the middle, in scratch.
  MatrixView<float> BackwardFfn(const BlockWeights& weights,
                                MatrixView<const float> dy,
                                BlockActivations& kept, BlockWeights& gradient);
  // From the gradient in the middle to that in q, k and v, in scratch.
  void BackwardAttention(const BlockWeights& weights,
                         MatrixView<const float> dmiddle,
                         BlockActivations& kept, BlockWeights& gradient,
                         const HeadsGradient& heads_gradient);
  void BackwardHeads(const BlockWeights& weights, BlockActivations& kept,
                     BlockWeights& gradient);
  // From that to dx, for which dmiddle is the part around the attention.
  void BackwardInput(const BlockWeights& weights, MatrixView<const float> x,
                     MatrixView<const float> dmiddle,
                     const BlockActivations& kept, MatrixView<float> dx,
                     BlockWeights& gradient);

  AttentionOptions attention_options() const;

  BlockContext context_;
  SgemmScratch products_;
  AttentionScratch attention_;
  // Gradients in the values of these names, and what Run needs.
  MatrixBuffer dinner_, dmiddle_, dattention_, dq_, dk_, dv_, dinput_;
  MatrixBuffer y_, dy_;
  BlockActivations chunk_;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_BLOCK_BACKWARD_H_
