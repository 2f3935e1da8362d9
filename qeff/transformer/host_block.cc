// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/host_block.h"

#include <algorithm>
#include <utility>

#include "qeff/transformer/activation.h"
#include "qeff/transformer/attention.h"
#include "qeff/transformer/cache_rounding.h"
#include "qeff/transformer/for_rows.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
absl::StatusOr<HostBlock> HostBlock::Load(const Transformer& model,
                                          int64_t block, ThreadPool& pool) {
  QEFF_ASSIGN_OR_RETURN(HostBlock result, LoadNorms(model, block));
  for (const LinearModule& module :
       model.map().blocks[static_cast<size_t>(block)].linears) {
    QEFF_ASSIGN_OR_RETURN(const LinearWeights weights,
                          model.LoadLinear(block, module.role));
    QEFF_RETURN_IF_ERROR(result.SetLinear(module, weights, pool));
  }
  model.ReleaseBlock(block);
  return result;
}

absl::StatusOr<HostBlock> HostBlock::LoadNorms(const Transformer& model,
                                               int64_t block) {
  HostBlock result;
  QEFF_ASSIGN_OR_RETURN(result.norms_, model.LoadBlockNorms(block));
  return result;
}

absl::Status HostBlock::SetLinear(const LinearModule& module,
                                  const LinearWeights& weights,
                                  ThreadPool& pool) {
  DropLinear(module.role);
  QEFF_ASSIGN_OR_RETURN(
      PackedLinear packed,
      PackedLinear::Create(weights.weight.view(), weights.bias, pool));
  linears_.push_back({&module, std::move(packed)});
  return absl::OkStatus();
}

void HostBlock::DropLinear(LinearRole role) {
  for (auto it = linears_.begin(); it != linears_.end(); ++it) {
    if (it->module->role != role) continue;
    linears_.erase(it);
    return;
  }
}

uint64_t HostBlock::PackedBytes(const TransformerSpec& spec) {
  const int64_t qkv = spec.q_size() + 2 * spec.kv_size();
  return PackedLinear::PackedBytes(qkv, spec.hidden_size) +
         PackedLinear::PackedBytes(spec.hidden_size, spec.q_size()) +
         PackedLinear::PackedBytes(spec.ffn_size, spec.hidden_size) *
             (spec.gated_ffn ? 2 : 1) +
         PackedLinear::PackedBytes(spec.hidden_size, spec.ffn_size);
}

HostBlock::Linear* HostBlock::Find(LinearRole role) {
  for (Linear& linear : linears_) {
    if (linear.module->role == role) return &linear;
  }
  return nullptr;
}

absl::Status HostBlock::RunLinear(const HostBlockContext& context,
                                  LinearRole role,
                                  MatrixView<const float> input,
                                  MatrixView<float> output) {
  Linear* linear = Find(role);
  QEFF_CHECK(linear != nullptr);
  QEFF_RETURN_IF_ERROR(linear->packed.Run(input, output, *context.pool));
  if (context.observer == nullptr) return absl::OkStatus();
  return context.observer->OnLinear({*linear->module, input, output});
}

MatrixView<float> HostBlock::AttentionInput(const HostBlockContext& context,
                                            MatrixView<const float> x) {
  const auto normed =
      context.scratch->Get(HostScratch::kNormed, x.rows(), x.cols());
  ApplyNorm(*context.spec, norms_.attention_norm, x, normed, *context.pool);
  return normed;
}

absl::StatusOr<MatrixView<float>> HostBlock::AttentionHeads(
    const HostBlockContext& context, absl::Span<const int64_t> lengths,
    MatrixView<const float> input) {
  const TransformerSpec& spec = *context.spec;
  ThreadPool& pool = *context.pool;
  HostScratch& scratch = *context.scratch;
  const int64_t rows = input.rows(), q_size = spec.q_size();
  const int64_t kv_size = spec.kv_size();
  MatrixView<float> q, k, v;
  if (Find(LinearRole::kQkv) != nullptr) {
    const auto qkv = scratch.Get(HostScratch::kQ, rows, q_size + 2 * kv_size);
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kQkv, input, qkv));
    q = qkv.Cols(0, q_size);
    k = qkv.Cols(q_size, kv_size);
    v = qkv.Cols(q_size + kv_size, kv_size);
  } else {
    q = scratch.Get(HostScratch::kQ, rows, q_size);
    k = scratch.Get(HostScratch::kK, rows, kv_size);
    v = scratch.Get(HostScratch::kV, rows, kv_size);
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kQ, input, q));
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kK, input, k));
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kV, input, v));
  }
  if (spec.clip_qkv > 0) {
    for (const auto& part : {q, k, v}) {
      Clip(static_cast<float>(spec.clip_qkv), part);
    }
  }
  if (spec.qk_norm) {
    NormHeads(spec, norms_.q_norm, q, q, pool);
    NormHeads(spec, norms_.k_norm, k, k, pool);
  }
  if (spec.position == PositionKind::kRope) {
    RotateSequences(*context.rope, lengths, q, pool);
    RotateSequences(*context.rope, lengths, k, pool);
  }
  if (context.observer != nullptr) {
    QEFF_RETURN_IF_ERROR(context.observer->OnHeads(q, k));
  }
  if (context.cache.has_value()) {
    for (const auto& part : {k, v}) {
      RoundCache(*context.cache, spec.head_dim, part, pool);
    }
  }
  const auto attention = scratch.Get(HostScratch::kAttention, rows, q_size);
  CausalAttention(AttentionOf(spec, context.alibi), lengths, q, k, v, attention,
                  pool);
  return attention;
}

MatrixView<float> HostBlock::FfnInput(const HostBlockContext& context,
                                      MatrixView<const float> x) {
  const auto normed =
      context.scratch->Get(HostScratch::kNormed, x.rows(), x.cols());
  ApplyNorm(*context.spec, norms_.ffn_norm, x, normed, *context.pool);
  return normed;
}

absl::StatusOr<MatrixView<float>> HostBlock::FfnInner(
    const HostBlockContext& context, MatrixView<const float> input) {
  const TransformerSpec& spec = *context.spec;
  ThreadPool& pool = *context.pool;
  HostScratch& scratch = *context.scratch;
  const int64_t rows = input.rows();
  const auto up = scratch.Get(HostScratch::kUp, rows, spec.ffn_size);
  MatrixView<float> inner = up;
  if (spec.gated_ffn) {
    inner = scratch.Get(HostScratch::kGate, rows, spec.ffn_size);
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kGate, input, inner));
  }
  QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kUp, input, up));
  ForRows(rows, spec.ffn_size, pool, [&](int64_t begin, int64_t count) {
    if (spec.gated_ffn) {
      ApplyGatedActivation(spec.activation, inner.Rows(begin, count),
                           up.Rows(begin, count));
    } else {
      ApplyActivation(spec.activation, inner.Rows(begin, count));
    }
  });
  return inner;
}

absl::Status HostBlock::AddLinear(const HostBlockContext& context,
                                  LinearRole role,
                                  MatrixView<const float> input,
                                  MatrixView<float> x) {
  const auto residual =
      context.scratch->Get(HostScratch::kResidual, x.rows(), x.cols());
  QEFF_RETURN_IF_ERROR(RunLinear(context, role, input, residual));
  AddRows(residual, x, *context.pool);
  return absl::OkStatus();
}

absl::Status HostBlock::Run(const HostBlockContext& context,
                            absl::Span<const int64_t> lengths,
                            MatrixView<float> x) {
  // Attention needs whole sequences: as many as fit a chunk, at least one.
  int64_t row = 0;
  for (size_t first = 0; first < lengths.size();) {
    size_t last = first;
    int64_t rows = 0;
    do {
      rows += lengths[last++];
    } while (last < lengths.size() &&
             rows + lengths[last] <= context.chunk_tokens);
    const auto part = x.Rows(row, rows);
    QEFF_ASSIGN_OR_RETURN(
        const MatrixView<float> heads,
        AttentionHeads(context, lengths.subspan(first, last - first),
                       AttentionInput(context, part)));
    QEFF_RETURN_IF_ERROR(AddLinear(context, LinearRole::kO, heads, part));
    row += rows;
    first = last;
  }
  QEFF_CHECK(row == x.rows());
  for (row = 0; row < x.rows(); row += context.chunk_tokens) {
    const auto part =
        x.Rows(row, std::min(context.chunk_tokens, x.rows() - row));
    QEFF_ASSIGN_OR_RETURN(const MatrixView<float> inner,
                          FfnInner(context, FfnInput(context, part)));
    QEFF_RETURN_IF_ERROR(AddLinear(context, LinearRole::kDown, inner, part));
  }
  return absl::OkStatus();
}

}  // namespace qeff
