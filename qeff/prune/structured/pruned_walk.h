// SPDX-License-Identifier: Apache-2.0
//
// Runs plans beside the original model, block by block: measures what each
// costs, and lets the weights that remain make up for those that go.
//
// Removed inputs of a layer are mostly predictable from those that stay. With
// inputs x of the original layer, x' of the pruned one, and everything before
// pruned and fitted already, least squares gives
//   o, down        W' = W_kept + E[e x'^T] (E[x' x'^T] + damping)^-1,
//                  e being what the hidden states then lack to the original's
//   q, k, v, gate, up, lm_head (where hidden channels go)
//                  W' = W P, with the P that predicts the original norm's
//                  output from what the pruned one gives
// and norms are scaled by what makes their outputs as large as they were. The
// damping pulls towards the weights as they are. This is the compensation of
// SparseGPT and OBS (Frantar and Alistarh 2023; Hassibi and Stork 1993) for
// whole columns at once, against the original's outputs.

#ifndef QEFF_PRUNE_STRUCTURED_PRUNED_WALK_H_
#define QEFF_PRUNE_STRUCTURED_PRUNED_WALK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct PrunedWalkOptions {
  bool compensate = true;
  // Added to the diagonal, relative to its mean.
  double damping = 0.01;
  // The last sequences of the sample, which nothing is fitted to: divergences
  // are measured on them. 0: nothing is measured.
  int64_t measured_sequences = 0;
  // Called with each finished block of each plan: layer of the result. May be
  // null.
  std::function<absl::Status(size_t plan, int64_t layer,
                             const BlockWeights& weights)>
      on_block;
  // Called between pieces of work; an error ends it. May be null.
  std::function<absl::Status()> check;
  // Called after each block of the model and at the end. May be null.
  std::function<void(int64_t done, int64_t total)> progress;
};

struct PrunedWalkResult {
  NormWeights final_norm;
  Matrix<float> projection;  // of lm_head's rows; empty: none (PrunedWriter)
  // Means over the measured tokens, in nats; 0 where none were.
  double divergence = 0;  // KL from the original model
  // Layers that stay as they were since nothing could be solved.
  int64_t unsolved = 0;
};

// Runs all `plans` (checked) in one pass over the model, with one of its blocks
// in memory, once for each plan that has it; beside that, for each plan, the
// sample's hidden states and inputs of o or down. The same bits for any number
// of threads. Errors: those of reading the model and of the callbacks;
// kDataLoss when a divergence is not finite, naming the plan.
absl::StatusOr<std::vector<PrunedWalkResult>> WalkPruned(
    std::shared_ptr<const Transformer> model,
    absl::Span<const StructuredPlan> plans, const TokenSample& sample,
    const PrunedWalkOptions& options, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_PRUNED_WALK_H_
