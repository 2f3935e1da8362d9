// SPDX-License-Identifier: Apache-2.0
//
// One block of a model, packed to run: what the host forward and the drivers of
// calibration, which walk the blocks themselves, are made of.

#ifndef QEFF_TRANSFORMER_HOST_BLOCK_H_
#define QEFF_TRANSFORMER_HOST_BLOCK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/format/codebook.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/forward_observer.h"
#include "qeff/transformer/host_scratch.h"
#include "qeff/transformer/rope.h"
#include "qeff/transformer/transformer.h"
#include "qeff/xnnpack/packed_linear.h"

namespace qeff {

// What a block needs besides its weights. Everything is borrowed.
struct HostBlockContext {
  const TransformerSpec* spec = nullptr;
  ThreadPool* pool = nullptr;
  HostScratch* scratch = nullptr;
  ForwardObserver* observer = nullptr;  // may be null
  const RopeTable* rope = nullptr;      // with rope: all positions
  absl::Span<const float> alibi = {};   // with ALiBi: a slope per head
  int64_t chunk_tokens = 1024;          // see HostForwardOptions
  absl::optional<Codebook> cache;       // see HostForwardOptions
};

// Thread-compatible: Run uses state of its own. The model must outlive it.
class HostBlock {
 public:
  // Loads and packs block `block`, one matrix after the other, and releases
  // their mapped pages. Errors: as Transformer::LoadLinear.
  static absl::StatusOr<HostBlock> Load(const Transformer& model, int64_t block,
                                        ThreadPool& pool);

  HostBlock(HostBlock&&) = default;
  HostBlock& operator=(HostBlock&&) = default;

  // Block `block` with its norms and without linear layers, which SetLinear
  // brings: for drivers that change weights between the steps of a block.
  static absl::StatusOr<HostBlock> LoadNorms(const Transformer& model,
                                             int64_t block);

  // Packs `weights` as layer `module`, in place of what was there. `module`
  // must outlive the block. Errors: as PackedLinear::Create.
  absl::Status SetLinear(const LinearModule& module,
                         const LinearWeights& weights, ThreadPool& pool);

  // Frees layer `role`, if there is one.
  void DropLinear(LinearRole role);

  BlockWeights& norms() { return norms_; }

  // Memory that a loaded block takes, about.
  static uint64_t PackedBytes(const TransformerSpec& spec);

  // x = block(x) for the hidden states x [tokens, hidden_size] of sequences of
  // `lengths` tokens, one after another, each from position 0. Errors: those
  // of the observer. Throws std::bad_alloc when memory is out.
  absl::Status Run(const HostBlockContext& context,
                   absl::Span<const int64_t> lengths, MatrixView<float> x);

  // The steps that Run is made of, for drivers that look in between. x are the
  // rows of whole sequences in the attention, any rows in the feed-forward.
  // Results lie in context.scratch until the next step of the same name. The
  // layers that a step uses must be there (checked). Errors: as Run.
  //   AttentionInput: input of q, k, v: the first norm of x
  //   AttentionHeads: input of o, from that of q, k, v
  //   FfnInput:       input of gate and up: the second norm of x
  //   FfnInner:       input of down, from that of gate and up
  //   AddLinear:      x += o or down of its input
  MatrixView<float> AttentionInput(const HostBlockContext& context,
                                   MatrixView<const float> x);
  absl::StatusOr<MatrixView<float>> AttentionHeads(
      const HostBlockContext& context, absl::Span<const int64_t> lengths,
      MatrixView<const float> input);
  MatrixView<float> FfnInput(const HostBlockContext& context,
                             MatrixView<const float> x);
  absl::StatusOr<MatrixView<float>> FfnInner(const HostBlockContext& context,
                                             MatrixView<const float> input);
  absl::Status AddLinear(const HostBlockContext& context, LinearRole role,
                         MatrixView<const float> input, MatrixView<float> x);

 private:
  struct Linear {
    const LinearModule* module;  // of the model's map
    PackedLinear packed;
  };

  HostBlock() = default;

  Linear* Find(LinearRole role);
  absl::Status RunLinear(const HostBlockContext& context, LinearRole role,
                         MatrixView<const float> input,
                         MatrixView<float> output);
  BlockWeights norms_;  // without its matrices
  std::vector<Linear> linears_;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_HOST_BLOCK_H_
