// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/model_gradient.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/model_ends.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

RopeTable TableOf(const TransformerSpec& spec, int64_t max_length) {
  return spec.position == PositionKind::kRope ? RopeTable(spec, max_length)
                                              : RopeTable();
}

}  // namespace

ModelGradient::ModelGradient(const TransformerSpec& spec, int64_t max_length,
                             const ModelGradientOptions& options,
                             ThreadPool* pool)
    : spec_(spec),
      options_(options),
      pool_(pool),
      rope_(TableOf(spec, max_length)),
      alibi_(AlibiSlopesAsFloat(spec)),
      block_({&spec, pool, &rope_, alibi_}),
      x_(static_cast<size_t>(spec.num_layers) + 1),
      kept_(options.recompute ? 1 : static_cast<size_t>(spec.num_layers)) {}

absl::Status ModelGradient::Forward(const ModelWeights& weights,
                                    const TokenBatch& batch, bool keep) {
  const int64_t rows = static_cast<int64_t>(batch.ids.size());
  EmbedTokens(weights.tokens.view(), weights.positions.view(), batch.lengths,
              batch.ids, x_[0].Get(rows, spec_.hidden_size), *pool_);
  for (int64_t i = 0; i < spec_.num_layers; ++i) {
    const size_t layer = static_cast<size_t>(i);
    const bool keeps = keep && !options_.recompute;
    QEFF_RETURN_IF_ERROR(Check());
    block_.Forward(weights.blocks[layer], batch.lengths, x(i),
                   x_[layer + 1].Get(rows, spec_.hidden_size),
                   kept_[keeps ? layer : 0]);
  }
  return absl::OkStatus();
}

absl::Status ModelGradient::BackwardHead(const ModelWeights& weights,
                                         ModelLoss& loss, MatrixView<float> dx,
                                         ModelWeights& gradient) {
  const auto last = x(spec_.num_layers);
  for (int64_t row = 0; row < last.rows(); row += options_.logit_rows) {
    QEFF_RETURN_IF_ERROR(Check());
    const int64_t count = std::min(options_.logit_rows, last.rows() - row);
    const auto hidden = hidden_.Get(count, spec_.hidden_size);
    const auto logits = logits_.Get(count, spec_.vocab_size);
    const auto part = last.Rows(row, count);
    const auto table = weights.lm_head_table().view();
    LmHeadForward(spec_, weights.final_norm, table, part, hidden, logits,
                  *pool_, products_);
    loss.AtLogits(row, logits);
    LmHeadBackward(spec_, weights.final_norm, table, part, hidden, logits,
                   dx.Rows(row, count), gradient.final_norm,
                   gradient.lm_head_table().view(), *pool_, products_);
  }
  return absl::OkStatus();
}

absl::Status ModelGradient::Run(const ModelWeights& weights,
                                const TokenBatch& batch, ModelLoss& loss,
                                ModelWeights& gradient,
                                const std::function<void(int64_t part)>& done) {
  const int64_t rows = static_cast<int64_t>(batch.ids.size());
  QEFF_RETURN_IF_ERROR(Forward(weights, batch, /*keep=*/true));
  const auto dx = dx_.Get(rows, spec_.hidden_size);
  QEFF_RETURN_IF_ERROR(BackwardHead(weights, loss, dx, gradient));
  if (done) done(spec_.num_layers);
  for (int64_t i = spec_.num_layers; i-- > 0;) {
    QEFF_RETURN_IF_ERROR(Check());
    const size_t layer = static_cast<size_t>(i);
    if (loss.WantsHidden(i)) loss.AtHidden(i, x(i + 1), dx);
    BlockActivations& kept = kept_[options_.recompute ? 0 : layer];
    if (options_.recompute && i + 1 < spec_.num_layers) {
      block_.Forward(weights.blocks[layer], batch.lengths, x(i),
                     unused_.Get(rows, spec_.hidden_size), kept);
    }
    DifferentiableBlock::HeadsGradient heads;
    if (loss.WantsHeads(i)) {
      heads = [&](MatrixView<const float> q, MatrixView<const float> k,
                  MatrixView<float> dq,
                  MatrixView<float> dk) { loss.AtHeads(i, q, k, dq, dk); };
    }
    block_.Backward(weights.blocks[layer], x(i), dx, kept, dx,
                    gradient.blocks[layer], heads);
    if (done) done(i);
  }
  EmbedTokensBackward(batch.lengths, batch.ids, dx, gradient.tokens.view(),
                      gradient.positions.view(), *pool_);
  if (done) done(-1);
  return absl::OkStatus();
}

absl::Status ModelGradient::Evaluate(const ModelWeights& weights,
                                     const TokenBatch& batch, ModelLoss& loss) {
  QEFF_RETURN_IF_ERROR(Forward(weights, batch, /*keep=*/false));
  const auto last = x(spec_.num_layers);
  for (int64_t row = 0; row < last.rows(); row += options_.logit_rows) {
    QEFF_RETURN_IF_ERROR(Check());
    const int64_t count = std::min(options_.logit_rows, last.rows() - row);
    const auto logits = logits_.Get(count, spec_.vocab_size);
    LmHeadForward(spec_, weights.final_norm, weights.lm_head_table().view(),
                  last.Rows(row, count), hidden_.Get(count, spec_.hidden_size),
                  logits, *pool_, products_);
    loss.AtLogits(row, logits);
  }
  return absl::OkStatus();
}

std::string ModelGradient::FirstBadOutput() {
  for (int64_t i = 0; i <= spec_.num_layers; ++i) {
    const auto values = x(i);
    for (int64_t r = 0; r < values.rows(); ++r) {
      for (int64_t c = 0; c < values.cols(); ++c) {
        if (std::isfinite(values.row(r)[c])) continue;
        return i == 0 ? "the embeddings"
                      : absl::StrCat("the output of block ", i - 1);
      }
    }
  }
  return "";
}

}  // namespace qeff
