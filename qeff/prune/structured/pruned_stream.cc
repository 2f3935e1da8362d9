// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/pruned_stream.h"

#include <algorithm>
#include <utility>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/prune/structured/slice_weights.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Layers of the blocks that run here, whose roles are all that is read. Fused
// ones are run as their parts.
const LinearModule& ModuleOf(LinearRole role) {
  static const auto* const kModules = [] {
    auto* modules = new std::vector<LinearModule>;
    for (const LinearRole each :
         {LinearRole::kQ, LinearRole::kK, LinearRole::kV, LinearRole::kO,
          LinearRole::kGate, LinearRole::kUp, LinearRole::kDown}) {
      modules->push_back({"", each, 0, 0, 0, false, false});
    }
    return modules;
  }();
  for (const LinearModule& module : *kModules) {
    if (module.role == role) return module;
  }
  QEFF_CHECK(false);
  return kModules->front();
}

// to = rows `kept` of `from`, times `projection`.
void Project(MatrixView<const float> from, absl::Span<const int64_t> kept,
             MatrixView<const float> projection, Matrix<float>* to,
             ThreadPool& pool) {
  const Matrix<float> rows = SelectRows(from, kept);
  SgemmArgs args;
  args.a = rows.view();
  args.b = projection;
  args.c = to->view();
  Sgemm(args, pool);
}

}  // namespace

PrunedStream::PrunedStream(const TransformerSpec& original,
                           const StructuredPlan& plan,
                           const TokenSample& sample, int64_t fit_rows,
                           bool compensate, double damping,
                           HostScratch& scratch, ThreadPool& pool)
    : original_(original),
      plan_(plan),
      spec_(PrunedSpec(original, plan)),
      fit_rows_(fit_rows),
      compensate_(compensate),
      damping_(damping),
      pool_(pool),
      run_(spec_, sample, &scratch, &pool) {}

void PrunedStream::Embed(MatrixView<const float> original) {
  x_ = SelectCols(original, plan_.hidden);
}

absl::Status PrunedStream::SetLinear(LinearRole role,
                                     const LinearWeights& weights) {
  return block_->SetLinear(ModuleOf(role), weights, pool_);
}

absl::Status PrunedStream::Begin(const Transformer& model, size_t layer,
                                 const BlockWeights& original) {
  layer_ = layer;
  weights_ = SliceBlock(original_, plan_, layer, original);
  QEFF_ASSIGN_OR_RETURN(block_,
                        HostBlock::LoadNorms(model, plan_.layers[layer]));
  block_->norms().attention_norm = weights_.attention_norm;
  block_->norms().ffn_norm = weights_.ffn_norm;
  QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kQ, weights_.q));
  QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kK, weights_.k));
  QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kV, weights_.v));
  QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kO, weights_.o));
  if (spec_.gated_ffn) {
    QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kGate, weights_.gate));
  }
  QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kUp, weights_.up));
  return SetLinear(LinearRole::kDown, weights_.down);
}

void PrunedStream::BeginFinal(const NormWeights& original) {
  final_norm_ = SliceNorm(original, plan_.hidden);
}

NormWeights& PrunedStream::Norm(NormSite site) {
  switch (site) {
    case NormSite::kAttention:
      return weights_.attention_norm;
    case NormSite::kFfn:
      return weights_.ffn_norm;
    default:
      return final_norm_;
  }
}

MatrixView<float> PrunedStream::Normed(NormSite site, int64_t row,
                                       int64_t rows) {
  const auto normed = run_.scratch().Get(HostScratch::kFinal, rows, x_.cols());
  ApplyNorm(spec_, Norm(site), x_.view().Rows(row, rows), normed, pool_);
  return normed;
}

int64_t PrunedStream::FitRows(const RowChunk& chunk) const {
  return std::clamp<int64_t>(fit_rows_ - chunk.row, 0, chunk.rows);
}

void PrunedStream::MeasureNorm(NormSite site, const RowChunk& chunk,
                               MatrixView<const float> normed) {
  const int64_t rows = FitRows(chunk);
  const MatrixView<const float> mine = Normed(site, chunk.row, rows);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < mine.cols(); ++c) {
      const double value = mine.row(r)[c];
      norm_product_ +=
          value * normed.row(r)[plan_.hidden[static_cast<size_t>(c)]];
      norm_square_ += value * value;
    }
  }
}

void PrunedStream::ScaleNorm(NormSite site) {
  const double scale = norm_square_ > 0 ? norm_product_ / norm_square_ : 1;
  norm_product_ = norm_square_ = 0;
  if (!(scale > 0)) return;  // or NaN, which the original has
  NormWeights& norm = Norm(site);
  for (float& weight : norm.weight) weight *= static_cast<float>(scale);
  for (float& bias : norm.bias) bias *= static_cast<float>(scale);
  if (site == NormSite::kAttention) block_->norms().attention_norm = norm;
  if (site == NormSite::kFfn) block_->norms().ffn_norm = norm;
}

void PrunedStream::FitNorm(NormSite site, const RowChunk& chunk,
                           MatrixView<const float> normed) {
  if (!compensate_) return;
  if (!fit_.has_value()) fit_.emplace(x_.cols(), normed.cols());
  const int64_t rows = FitRows(chunk);
  if (rows == 0) return;
  const MatrixView<const float> mine = Normed(site, chunk.row, rows);
  Matrix<float> errors = CopyOf(normed.Rows(0, rows));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < mine.cols(); ++c) {
      errors.row(r)[plan_.hidden[static_cast<size_t>(c)]] -= mine.row(r)[c];
    }
  }
  fit_->Add(mine, errors.view(), pool_);
}

absl::Status PrunedStream::SolveReaders(NormSite site,
                                        const BlockWeights& original) {
  if (!compensate_) return absl::OkStatus();
  Matrix<float> projection(original_.hidden_size, x_.cols());
  for (int64_t c = 0; c < x_.cols(); ++c) {
    projection.row(plan_.hidden[static_cast<size_t>(c)])[c] = 1;
  }
  const bool solved = fit_->Correct(damping_, projection.view(), pool_);
  fit_.reset();
  if (!solved) {
    ++unsolved_;
    return absl::OkStatus();
  }
  const auto p = projection.view();
  if (site == NormSite::kFinal) {
    // A tied lm_head is the embedding.
    if (!original_.tied_lm_head) projection_ = std::move(projection);
    return absl::OkStatus();
  }
  if (site == NormSite::kAttention) {
    const std::vector<int64_t>& groups = plan_.kv_groups[layer_];
    const std::vector<int64_t> heads = HeadChannels(original_, groups);
    const std::vector<int64_t> keys = KeyChannels(original_, groups);
    Project(original.q.weight.view(), heads, p, &weights_.q.weight, pool_);
    Project(original.k.weight.view(), keys, p, &weights_.k.weight, pool_);
    Project(original.v.weight.view(), keys, p, &weights_.v.weight, pool_);
    QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kQ, weights_.q));
    QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kK, weights_.k));
    return SetLinear(LinearRole::kV, weights_.v);
  }
  const std::vector<int64_t>& ffn = plan_.ffn[layer_];
  if (spec_.gated_ffn) {
    Project(original.gate.weight.view(), ffn, p, &weights_.gate.weight, pool_);
    QEFF_RETURN_IF_ERROR(SetLinear(LinearRole::kGate, weights_.gate));
  }
  Project(original.up.weight.view(), ffn, p, &weights_.up.weight, pool_);
  return SetLinear(LinearRole::kUp, weights_.up);
}

absl::Status PrunedStream::RunHalf(NormSite site, const RowChunk& chunk,
                                   MatrixView<const float> after) {
  const HostBlockContext& context = run_.context();
  const auto x = x_.view().Rows(chunk.row, chunk.rows);
  const bool attention = site == NormSite::kAttention;
  MatrixView<float> inputs;
  if (attention) {
    QEFF_ASSIGN_OR_RETURN(
        inputs, block_->AttentionHeads(context, chunk.lengths,
                                       block_->AttentionInput(context, x)));
  } else {
    QEFF_ASSIGN_OR_RETURN(
        inputs, block_->FfnInner(context, block_->FfnInput(context, x)));
  }
  const LinearRole role = attention ? LinearRole::kO : LinearRole::kDown;
  if (!compensate_) return block_->AddLinear(context, role, inputs, x);
  if (inputs_.cols() != inputs.cols()) {
    inputs_ = Matrix<float>();
    // Products may read behind the last row.
    inputs_ = Matrix<float>(x_.rows() + 1, inputs.cols());
  }
  CopyRows(inputs, inputs_.view().Rows(chunk.row, chunk.rows), pool_);
  const int64_t rows = FitRows(chunk);
  if (!fit_.has_value()) fit_.emplace(inputs.cols(), x.cols());
  if (rows == 0) return absl::OkStatus();
  Matrix<float> sum = CopyOf(x);
  QEFF_RETURN_IF_ERROR(block_->AddLinear(context, role, inputs, sum.view()));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < sum.cols(); ++c) {
      const float wanted = after.row(r)[plan_.hidden[static_cast<size_t>(c)]];
      sum.row(r)[c] = wanted - sum.row(r)[c];
    }
  }
  fit_->Add(inputs.Rows(0, rows), sum.view().Rows(0, rows), pool_);
  return absl::OkStatus();
}

absl::Status PrunedStream::SolveHalf(NormSite site) {
  if (!compensate_) return absl::OkStatus();
  const bool attention = site == NormSite::kAttention;
  LinearWeights& weights = attention ? weights_.o : weights_.down;
  const bool solved = fit_->Correct(damping_, weights.weight.view(), pool_);
  fit_.reset();
  if (!solved) {
    ++unsolved_;
    return absl::OkStatus();
  }
  return SetLinear(attention ? LinearRole::kO : LinearRole::kDown, weights);
}

absl::Status PrunedStream::FinishHalf(NormSite site, const RowChunk& chunk) {
  if (!compensate_) return absl::OkStatus();
  return block_->AddLinear(
      run_.context(),
      site == NormSite::kAttention ? LinearRole::kO : LinearRole::kDown,
      inputs_.view().Rows(chunk.row, chunk.rows),
      x_.view().Rows(chunk.row, chunk.rows));
}

void PrunedStream::End() {
  block_.reset();
  weights_ = BlockWeights();
  inputs_ = Matrix<float>();
}

Matrix<float> PrunedStream::LmHeadInput(int64_t row, int64_t rows) {
  const MatrixView<const float> mine = Normed(NormSite::kFinal, row, rows);
  // Products may read behind the last row.
  Matrix<float> full(rows + 1, original_.hidden_size);
  const auto out = full.view().Rows(0, rows);
  if (!projection_.empty()) {
    SgemmArgs args;
    args.a = mine;
    args.b = projection_.view();
    args.b_transposed = true;
    args.c = out;
    Sgemm(args, pool_);
    return full;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < mine.cols(); ++c) {
      out.row(r)[plan_.hidden[static_cast<size_t>(c)]] = mine.row(r)[c];
    }
  }
  return full;
}

}  // namespace qeff
