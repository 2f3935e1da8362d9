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
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
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

  // Memory that a loaded block takes, about.
  static uint64_t PackedBytes(const TransformerSpec& spec);

  // x = block(x) for the hidden states x [tokens, hidden_size] of sequences of
  // `lengths` tokens, one after another, each from position 0. Errors: those
  // of the observer. Throws std::bad_alloc when memory is out.
  absl::Status Run(const HostBlockContext& context,
                   absl::Span<const int64_t> lengths, MatrixView<float> x);

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
  absl::Status RunAttention(const HostBlockContext& context,
                            absl::Span<const int64_t> lengths,
                            MatrixView<float> x);
  absl::Status RunFfn(const HostBlockContext& context, MatrixView<float> x);

  BlockWeights norms_;  // without its matrices
  std::vector<Linear> linears_;
};

// The norm of `spec` on the threads of `pool`; y may be x.
void ApplyNorm(const TransformerSpec& spec, const NormWeights& norm,
               MatrixView<const float> x, MatrixView<float> y,
               ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_HOST_BLOCK_H_
