// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/pruned_walk.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/calibration/logit_divergence.h"
#include "qeff/prune/structured/model_run.h"
#include "qeff/prune/structured/pruned_stream.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/host_block.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

class Walk {
 public:
  Walk(std::shared_ptr<const Transformer> model,
       absl::Span<const StructuredPlan> plans, const TokenSample& sample,
       const PrunedWalkOptions& options, ThreadPool& pool)
      : model_(std::move(model)),
        spec_(model_->spec()),
        options_(options),
        pool_(pool),
        sample_(sample),
        chunks_(sample, options.check),
        run_(spec_, sample, &scratch_, &pool),
        fit_rows_(sample.tokens) {
    for (int64_t i = 0; i < options.measured_sequences; ++i) {
      fit_rows_ -= static_cast<int64_t>(
          sample.sequences[sample.sequences.size() - 1 - static_cast<size_t>(i)]
              .size());
    }
    for (const StructuredPlan& plan : plans) {
      streams_.push_back(std::make_unique<PrunedStream>(
          spec_, plan, sample, fit_rows_, options.compensate, options.damping,
          scratch_, pool));
    }
  }

  absl::StatusOr<std::vector<PrunedWalkResult>> Go() {
    QEFF_ASSIGN_OR_RETURN(x_, EmbedRows(*model_, sample_));
    middle_ = Matrix<float>(x_.rows(), x_.cols());
    next_ = Matrix<float>(x_.rows(), x_.cols());
    for (const auto& stream : streams_) stream->Embed(x_.view());
    for (int64_t b = 0; b < spec_.num_layers; ++b) {
      QEFF_RETURN_IF_ERROR(RunBlock(b), absl::StrCat("block ", b));
      if (options_.progress) options_.progress(b + 1, spec_.num_layers + 1);
    }
    QEFF_ASSIGN_OR_RETURN(final_norm_, model_->LoadFinalNorm());
    for (const auto& stream : streams_) {
      stream->BeginFinal(final_norm_);
      QEFF_RETURN_IF_ERROR(
          RunNorm(NormSite::kFinal, final_norm_, x_, {}, stream.get()));
    }
    std::vector<PrunedWalkResult> results(streams_.size());
    if (fit_rows_ < x_.rows()) QEFF_RETURN_IF_ERROR(Measure(&results));
    for (size_t i = 0; i < streams_.size(); ++i) {
      results[i].final_norm = streams_[i]->final_norm();
      results[i].projection = std::move(streams_[i]->projection());
      results[i].unsolved = streams_[i]->unsolved();
    }
    if (options_.progress) {
      options_.progress(spec_.num_layers + 1, spec_.num_layers + 1);
    }
    return results;
  }

 private:
  absl::Status RunBlock(int64_t index) {
    QEFF_ASSIGN_OR_RETURN(const BlockWeights original,
                          model_->LoadBlock(index));
    QEFF_RETURN_IF_ERROR(RunOriginal(index));
    for (size_t i = 0; i < streams_.size(); ++i) {
      const std::vector<int64_t>& layers = streams_[i]->plan().layers;
      const auto at = std::lower_bound(layers.begin(), layers.end(), index);
      if (at == layers.end() || *at != index) continue;
      QEFF_RETURN_IF_ERROR(
          RunStream(i, static_cast<size_t>(at - layers.begin()), original));
    }
    std::swap(x_, next_);
    return absl::OkStatus();
  }

  // Runs stream `number`, for which the block is layer `layer`.
  absl::Status RunStream(size_t number, size_t layer,
                         const BlockWeights& original) {
    PrunedStream* stream = streams_[number].get();
    QEFF_RETURN_IF_ERROR(stream->Begin(*model_, layer, original));
    QEFF_RETURN_IF_ERROR(RunNorm(NormSite::kAttention, original.attention_norm,
                                 x_, original, stream));
    QEFF_RETURN_IF_ERROR(RunHalf(NormSite::kAttention, middle_, stream));
    QEFF_RETURN_IF_ERROR(
        RunNorm(NormSite::kFfn, original.ffn_norm, middle_, original, stream));
    QEFF_RETURN_IF_ERROR(RunHalf(NormSite::kFfn, next_, stream));
    if (options_.on_block) {
      QEFF_RETURN_IF_ERROR(options_.on_block(
          number, static_cast<int64_t>(layer), stream->weights()));
    }
    stream->End();
    return absl::OkStatus();
  }

  // Lets the stream make up for hidden channels that a norm of `x` has lost.
  absl::Status RunNorm(NormSite site, const NormWeights& norm,
                       const Matrix<float>& x, const BlockWeights& original,
                       PrunedStream* stream) {
    if (!stream->PrunesHidden()) return absl::OkStatus();
    const auto for_normed = [&](auto body) {
      return chunks_.ForSequences([&](const RowChunk& chunk) {
        const auto normed =
            scratch_.Get(HostScratch::kResidual, chunk.rows, spec_.hidden_size);
        ApplyNorm(spec_, norm, x.view().Rows(chunk.row, chunk.rows), normed,
                  pool_);
        body(chunk, normed);
        return absl::OkStatus();
      });
    };
    QEFF_RETURN_IF_ERROR(
        for_normed([&](const RowChunk& chunk, MatrixView<const float> normed) {
          stream->MeasureNorm(site, chunk, normed);
        }));
    stream->ScaleNorm(site);
    QEFF_RETURN_IF_ERROR(
        for_normed([&](const RowChunk& chunk, MatrixView<const float> normed) {
          stream->FitNorm(site, chunk, normed);
        }));
    return stream->SolveReaders(site, original);
  }

  absl::Status RunHalf(NormSite half, const Matrix<float>& after,
                       PrunedStream* stream) {
    QEFF_RETURN_IF_ERROR(chunks_.ForSequences([&](const RowChunk& chunk) {
      return stream->RunHalf(half, chunk,
                             after.view().Rows(chunk.row, chunk.rows));
    }));
    QEFF_RETURN_IF_ERROR(stream->SolveHalf(half));
    return chunks_.ForSequences(
        [&](const RowChunk& chunk) { return stream->FinishHalf(half, chunk); });
  }

  // Sets middle_ and next_ to what block `index` makes of x_.
  absl::Status RunOriginal(int64_t index) {
    QEFF_ASSIGN_OR_RETURN(HostBlock block,
                          HostBlock::Load(*model_, index, pool_));
    const HostBlockContext& context = run_.context();
    CopyRows(x_.view(), middle_.view(), pool_);
    return chunks_.ForSequences([&](const RowChunk& chunk) -> absl::Status {
      const auto middle = middle_.view().Rows(chunk.row, chunk.rows);
      const auto next = next_.view().Rows(chunk.row, chunk.rows);
      QEFF_ASSIGN_OR_RETURN(
          const auto heads,
          block.AttentionHeads(context, chunk.lengths,
                               block.AttentionInput(context, middle)));
      QEFF_RETURN_IF_ERROR(
          block.AddLinear(context, LinearRole::kO, heads, middle));
      CopyRows(middle, next, pool_);
      QEFF_ASSIGN_OR_RETURN(
          const auto inner,
          block.FfnInner(context, block.FfnInput(context, next)));
      return block.AddLinear(context, LinearRole::kDown, inner, next);
    });
  }

  absl::Status Measure(std::vector<PrunedWalkResult>* results) {
    const int64_t measured = x_.rows() - fit_rows_;
    Matrix<float> taken;
    const auto input =
        [&](int64_t number, int64_t row,
            int64_t rows) -> absl::StatusOr<MatrixView<const float>> {
      taken = streams_[static_cast<size_t>(number)]->LmHeadInput(
          fit_rows_ + row, rows);
      return MatrixView<const float>(taken.view().Rows(0, rows));
    };
    QEFF_ASSIGN_OR_RETURN(
        const std::vector<double> sums,
        SumLogitDivergences(model_, x_.view().Rows(fit_rows_, measured),
                            static_cast<int64_t>(streams_.size()), input,
                            options_.check, pool_));
    for (size_t i = 0; i < sums.size(); ++i) {
      (*results)[i].divergence = sums[i] / static_cast<double>(measured);
      if (std::isfinite(sums[i])) continue;
      return NumericalError("plan ", i, ": its logits are not finite");
    }
    return absl::OkStatus();
  }

  std::shared_ptr<const Transformer> model_;
  const TransformerSpec& spec_;
  const PrunedWalkOptions& options_;
  ThreadPool& pool_;
  const TokenSample& sample_;
  const SampleChunks chunks_;
  HostScratch scratch_;
  ModelRun run_;
  int64_t fit_rows_;
  std::vector<std::unique_ptr<PrunedStream>> streams_;
  // Hidden states of the original model: before, in the middle of and behind
  // the block at hand.
  Matrix<float> x_, middle_, next_;
  NormWeights final_norm_;
};

}  // namespace

absl::StatusOr<std::vector<PrunedWalkResult>> WalkPruned(
    std::shared_ptr<const Transformer> model,
    absl::Span<const StructuredPlan> plans, const TokenSample& sample,
    const PrunedWalkOptions& options, ThreadPool& pool) {
  return GuardMemory([&] {
    return Walk(std::move(model), plans, sample, options, pool).Go();
  });
}

}  // namespace qeff
