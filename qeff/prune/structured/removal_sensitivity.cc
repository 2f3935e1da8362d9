// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/removal_sensitivity.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/calibration/hidden_states.h"
#include "qeff/calibration/logit_divergence.h"
#include "qeff/calibration/row_store.h"
#include "qeff/prune/structured/model_run.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/host_block.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kLeastTokens = 64, kMostTokens = 8192;

void ZeroColumns(const std::vector<int64_t>& columns, MatrixView<float> x) {
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (const int64_t c : columns) x.row(r)[c] = 0;
  }
}

int64_t PartsOfLayer(const TransformerSpec& spec) {
  return 1 + spec.num_kv_heads + kFfnSlices;
}

class RemovalMeter {
 public:
  RemovalMeter(std::shared_ptr<const Transformer> model,
               const StructuredImportance& importance,
               const TokenSample& sample, const RemovalOptions& options,
               ThreadPool& pool)
      : model_(std::move(model)),
        spec_(model_->spec()),
        importance_(importance),
        sample_(sample),
        options_(options),
        pool_(pool),
        chunks_(sample, options.calls.check),
        run_(spec_, sample, &scratch_, &pool) {}

  absl::StatusOr<std::vector<LayerSensitivity>> Go() {
    const int64_t parts = spec_.num_layers * PartsOfLayer(spec_);
    const int64_t rows = sample_.tokens * parts;
    if (options_.scratch_path.empty()) {
      streams_.emplace(rows, spec_.hidden_size);
    } else {
      QEFF_ASSIGN_OR_RETURN(
          streams_,
          RowStore::InFile(options_.scratch_path, rows, spec_.hidden_size));
    }
    QEFF_ASSIGN_OR_RETURN(x_, EmbedRows(*model_, sample_));
    for (int64_t b = 0; b < spec_.num_layers; ++b) {
      QEFF_RETURN_IF_ERROR(RunBlock(b), absl::StrCat("block ", b));
      if (options_.calls.progress) {
        options_.calls.progress(b + 1, spec_.num_layers + 1);
      }
    }
    QEFF_ASSIGN_OR_RETURN(const std::vector<double> sums, Divergences(parts));
    if (options_.calls.progress) {
      options_.calls.progress(spec_.num_layers + 1, spec_.num_layers + 1);
    }
    return Result(sums);
  }

 private:
  absl::Status RunBlock(int64_t index) {
    QEFF_ASSIGN_OR_RETURN(HostBlock block,
                          HostBlock::Load(*model_, index, pool_));
    first_part_ = index * PartsOfLayer(spec_);
    for (int64_t part = 0; part < first_part_; ++part) {
      QEFF_RETURN_IF_ERROR(
          chunks_.ForSequences([&](const RowChunk& chunk) -> absl::Status {
            const int64_t row = part * x_.rows() + chunk.row;
            QEFF_ASSIGN_OR_RETURN(const auto x,
                                  streams_->Read(row, chunk.rows));
            QEFF_RETURN_IF_ERROR(block.Run(run_.context(), chunk.lengths, x));
            return streams_->Write(row, x);
          }));
    }
    const auto slices = FfnSlices(static_cast<size_t>(index));
    return chunks_.ForSequences(
        [&](const RowChunk& chunk) { return RunOwn(chunk, slices, &block); });
  }

  // Neurons of each slice, the least important first.
  std::vector<std::vector<int64_t>> FfnSlices(size_t layer) const {
    const std::vector<double>& importance = importance_.ffn[layer];
    std::vector<int64_t> order(importance.size());
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return importance[static_cast<size_t>(a)] <
             importance[static_cast<size_t>(b)];
    });
    std::vector<std::vector<int64_t>> slices;
    const size_t parts = static_cast<size_t>(kFfnSlices);
    for (size_t s = 0; s < parts; ++s) {
      const size_t begin = s * order.size() / parts;
      const size_t end = (s + 1) * order.size() / parts;
      slices.emplace_back(order.begin() + static_cast<int64_t>(begin),
                          order.begin() + static_cast<int64_t>(end));
    }
    return slices;
  }

  // The block's parts for the rows of a chunk; x_ goes on to the next block.
  absl::Status RunOwn(const RowChunk& chunk,
                      const std::vector<std::vector<int64_t>>& slices,
                      HostBlock* block) {
    const HostBlockContext& context = run_.context();
    const auto x = x_.view().Rows(chunk.row, chunk.rows);
    int64_t part = first_part_;
    QEFF_RETURN_IF_ERROR(Store(part++, chunk, x));  // no layer
    QEFF_ASSIGN_OR_RETURN(
        const auto heads,
        block->AttentionHeads(context, chunk.lengths,
                              block->AttentionInput(context, x)));
    const Matrix<float> all_heads = CopyOf(heads);
    const int64_t width = spec_.q_size() / spec_.num_kv_heads;
    for (int64_t g = 0; g < spec_.num_kv_heads; ++g) {
      std::vector<int64_t> columns(static_cast<size_t>(width));
      std::iota(columns.begin(), columns.end(), g * width);
      CopyRows(all_heads.view(), heads, pool_);
      ZeroColumns(columns, heads);
      Matrix<float> changed = CopyOf(x);
      QEFF_RETURN_IF_ERROR(
          block->AddLinear(context, LinearRole::kO, heads, changed.view()));
      QEFF_ASSIGN_OR_RETURN(
          const auto inner,
          block->FfnInner(context, block->FfnInput(context, changed.view())));
      QEFF_RETURN_IF_ERROR(
          block->AddLinear(context, LinearRole::kDown, inner, changed.view()));
      QEFF_RETURN_IF_ERROR(Store(part++, chunk, changed.view()));
    }
    CopyRows(all_heads.view(), heads, pool_);
    QEFF_RETURN_IF_ERROR(block->AddLinear(context, LinearRole::kO, heads, x));
    QEFF_ASSIGN_OR_RETURN(
        const auto inner,
        block->FfnInner(context, block->FfnInput(context, x)));
    const Matrix<float> all_inner = CopyOf(inner);
    for (const std::vector<int64_t>& slice : slices) {
      CopyRows(all_inner.view(), inner, pool_);
      ZeroColumns(slice, inner);
      Matrix<float> changed = CopyOf(x);
      QEFF_RETURN_IF_ERROR(
          block->AddLinear(context, LinearRole::kDown, inner, changed.view()));
      QEFF_RETURN_IF_ERROR(Store(part++, chunk, changed.view()));
    }
    CopyRows(all_inner.view(), inner, pool_);
    return block->AddLinear(context, LinearRole::kDown, inner, x);
  }

  absl::Status Store(int64_t part, const RowChunk& chunk,
                     MatrixView<const float> x) {
    return streams_->Write(part * x_.rows() + chunk.row, x);
  }

  absl::StatusOr<std::vector<double>> Divergences(int64_t parts) {
    QEFF_ASSIGN_OR_RETURN(const NormWeights norm, model_->LoadFinalNorm());
    const auto input =
        [&](int64_t part, int64_t row,
            int64_t rows) -> absl::StatusOr<MatrixView<const float>> {
      QEFF_ASSIGN_OR_RETURN(const auto x,
                            streams_->Read(part * x_.rows() + row, rows));
      const auto normed = scratch_.Get(HostScratch::kFinal, rows, x.cols());
      ApplyNorm(spec_, norm, x, normed, pool_);
      return MatrixView<const float>(normed);
    };
    return SumLogitDivergences(model_, x_.view(), parts, input,
                               options_.calls.check, pool_);
  }

  absl::StatusOr<std::vector<LayerSensitivity>> Result(
      const std::vector<double>& sums) const {
    std::vector<LayerSensitivity> layers;
    auto next = sums.begin();
    const double tokens = static_cast<double>(sample_.tokens);
    for (int64_t b = 0; b < spec_.num_layers; ++b) {
      for (auto it = next; it != next + PartsOfLayer(spec_); ++it) {
        if (std::isfinite(*it)) continue;
        return NumericalError("block ", b,
                              ": without a part of it logits are not finite");
      }
      LayerSensitivity layer;
      layer.layer = *next++ / tokens;
      for (int64_t g = 0; g < spec_.num_kv_heads; ++g) {
        layer.kv_groups.push_back(*next++ / tokens);
      }
      for (int s = 0; s < kFfnSlices; ++s) {
        layer.ffn_slices.push_back(*next++ / tokens);
      }
      layers.push_back(std::move(layer));
    }
    return layers;
  }

  std::shared_ptr<const Transformer> model_;
  const TransformerSpec& spec_;
  const StructuredImportance& importance_;
  const TokenSample& sample_;
  const RemovalOptions& options_;
  ThreadPool& pool_;
  const SampleChunks chunks_;
  HostScratch scratch_;
  ModelRun run_;
  Matrix<float> x_;  // of the original model
  absl::optional<RowStore> streams_;
  int64_t first_part_ = 0;  // of the block at hand
};

}  // namespace

TokenSample RemovalSample(const Transformer& model, const TokenSample& sample) {
  const TransformerSpec& spec = model.spec();
  const uint64_t bytes = static_cast<uint64_t>(spec.num_layers) *
                         static_cast<uint64_t>(PartsOfLayer(spec)) *
                         static_cast<uint64_t>(spec.hidden_size) * 4;
  const int64_t most = std::clamp(static_cast<int64_t>(kRemovalBytes / bytes),
                                  kLeastTokens, kMostTokens);
  TokenSample part;
  for (std::vector<int32_t> sequence : sample.sequences) {
    const int64_t length = static_cast<int64_t>(sequence.size());
    if (part.tokens + length > most) {
      if (part.tokens > 0) break;
      sequence.resize(static_cast<size_t>(most));
    }
    part.tokens += static_cast<int64_t>(sequence.size());
    part.sequences.push_back(std::move(sequence));
  }
  return part;
}

absl::StatusOr<std::vector<LayerSensitivity>> MeasureRemovals(
    std::shared_ptr<const Transformer> model,
    const StructuredImportance& importance, const TokenSample& sample,
    const RemovalOptions& options, ThreadPool& pool) {
  return GuardMemory([&] {
    return RemovalMeter(std::move(model), importance, sample, options, pool)
        .Go();
  });
}

}  // namespace qeff
