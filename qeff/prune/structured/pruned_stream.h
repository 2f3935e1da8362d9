// SPDX-License-Identifier: Apache-2.0
//
// One plan on its way through a model (pruned_walk.h): its hidden states, and
// the block at hand with the weights that it will have.

#ifndef QEFF_PRUNE_STRUCTURED_PRUNED_STREAM_H_
#define QEFF_PRUNE_STRUCTURED_PRUNED_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/least_squares.h"
#include "qeff/prune/structured/model_run.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/host_block.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Where a norm stands.
enum class NormSite : uint8_t { kAttention, kFfn, kFinal };

// Not thread-safe. Steps of a block, for the chunks of a sample each:
//   Begin
//   for both halves of the block:
//     MeasureNorm*, ScaleNorm, FitNorm*, SolveReaders   (PrunesHidden)
//     RunHalf*, SolveHalf, FinishHalf*
//   End
// then the norm's four steps for kFinal. Rows from `fit_rows` on are run and
// not fitted to. All throw std::bad_alloc.
class PrunedStream {
 public:
  // What is borrowed must outlive it; streams that do not run at once may share
  // `scratch`.
  PrunedStream(const TransformerSpec& original, const StructuredPlan& plan,
               const TokenSample& sample, int64_t fit_rows, bool compensate,
               double damping, HostScratch& scratch, ThreadPool& pool);

  const StructuredPlan& plan() const { return plan_; }
  bool PrunesHidden() const {
    return spec_.hidden_size != original_.hidden_size;
  }
  const BlockWeights& weights() const { return weights_; }
  const NormWeights& final_norm() const { return final_norm_; }
  Matrix<float>& projection() { return projection_; }
  int64_t unsolved() const { return unsolved_; }

  // Hidden states of the first block.
  void Embed(MatrixView<const float> original);

  // Takes layer `layer` of the result from the original's weights.
  absl::Status Begin(const Transformer& model, size_t layer,
                     const BlockWeights& original);
  void BeginFinal(const NormWeights& original);

  // `normed` is what the original's norm gives for the chunk.
  void MeasureNorm(NormSite site, const RowChunk& chunk,
                   MatrixView<const float> normed);
  void ScaleNorm(NormSite site);
  void FitNorm(NormSite site, const RowChunk& chunk,
               MatrixView<const float> normed);
  absl::Status SolveReaders(NormSite site, const BlockWeights& original);

  // `after` is the original's hidden states behind o (kAttention) or down.
  absl::Status RunHalf(NormSite site, const RowChunk& chunk,
                       MatrixView<const float> after);
  absl::Status SolveHalf(NormSite site);
  absl::Status FinishHalf(NormSite site, const RowChunk& chunk);

  // Frees the block.
  void End();

  // The final norm's output, as lm_head of the original would take it.
  Matrix<float> LmHeadInput(int64_t row, int64_t rows);

 private:
  NormWeights& Norm(NormSite site);
  // What the norm at `site` gives for `rows` rows, in scratch.
  MatrixView<float> Normed(NormSite site, int64_t row, int64_t rows);
  int64_t FitRows(const RowChunk& chunk) const;
  absl::Status SetLinear(LinearRole role, const LinearWeights& weights);

  const TransformerSpec& original_;
  const StructuredPlan& plan_;
  const TransformerSpec spec_;
  const int64_t fit_rows_;
  const bool compensate_;
  const double damping_;
  ThreadPool& pool_;
  ModelRun run_;
  Matrix<float> x_;
  size_t layer_ = 0;
  BlockWeights weights_;
  NormWeights final_norm_;
  Matrix<float> projection_;
  absl::optional<HostBlock> block_;
  absl::optional<LeastSquares> fit_;
  Matrix<float> inputs_;  // of o or down, and some room behind
  double norm_product_ = 0, norm_square_ = 0;
  int64_t unsolved_ = 0;
};

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_PRUNED_STREAM_H_
