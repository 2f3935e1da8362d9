// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/host_block.h"

#include <algorithm>
#include <utility>

#include "qeff/transformer/activation.h"
#include "qeff/transformer/attention.h"
#include "qeff/transformer/norm.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Rows below which another thread does not pay for an elementwise step.
constexpr int64_t kMinElems = 1 << 14;

// Calls body(first row, count) on the threads of `pool` for all `rows`.
template <typename Body>
void ForRows(int64_t rows, int64_t cols, ThreadPool& pool, Body body) {
  const int64_t grain = BalancedGrain(
      rows, pool.num_threads(),
      std::max<int64_t>(1, kMinElems / std::max<int64_t>(1, cols)));
  pool.ParallelFor(rows, grain, [&](int64_t begin, int64_t end, int) {
    body(begin, end - begin);
  });
}

// x as heads: [rows * heads, head_dim] when rows are contiguous. Applies the
// norm to each head of each row in place.
void NormHeads(const TransformerSpec& spec, const NormWeights& norm,
               MatrixView<float> x, ThreadPool& pool) {
  ForRows(x.rows(), x.cols(), pool, [&](int64_t begin, int64_t count) {
    for (int64_t c = 0; c < x.cols(); c += spec.head_dim) {
      const auto head = x.Rows(begin, count).Cols(c, spec.head_dim);
      RmsNorm(head, norm.weight, spec.norm_epsilon, head);
    }
  });
}

// Rotates the heads of sequences that follow one another.
void RopeSequences(const RopeTable& table, absl::Span<const int64_t> lengths,
                   MatrixView<float> x, ThreadPool& pool) {
  int64_t first = 0;
  for (int64_t length : lengths) {
    const auto sequence = x.Rows(first, length);
    ForRows(length, x.cols(), pool, [&](int64_t begin, int64_t count) {
      ApplyRope(table, begin, sequence.Rows(begin, count));
    });
    first += length;
  }
}

void AddInParallel(MatrixView<float> x, MatrixView<const float> y,
                   ThreadPool& pool) {
  ForRows(x.rows(), x.cols(), pool, [&](int64_t begin, int64_t count) {
    AddTo(x.Rows(begin, count), y.Rows(begin, count));
  });
}

}  // namespace

void ApplyNorm(const TransformerSpec& spec, const NormWeights& norm,
               MatrixView<const float> x, MatrixView<float> y,
               ThreadPool& pool) {
  ForRows(x.rows(), x.cols(), pool, [&](int64_t begin, int64_t count) {
    if (spec.norm == NormKind::kRmsNorm) {
      RmsNorm(x.Rows(begin, count), norm.weight, spec.norm_epsilon,
              y.Rows(begin, count));
    } else {
      LayerNorm(x.Rows(begin, count), norm.weight, norm.bias, spec.norm_epsilon,
                y.Rows(begin, count));
    }
  });
}

absl::StatusOr<HostBlock> HostBlock::Load(const Transformer& model,
                                          int64_t block, ThreadPool& pool) {
  HostBlock result;
  QEFF_ASSIGN_OR_RETURN(result.norms_, model.LoadBlockNorms(block));
  for (const LinearModule& module :
       model.map().blocks[static_cast<size_t>(block)].linears) {
    QEFF_ASSIGN_OR_RETURN(const LinearWeights weights,
                          model.LoadLinear(block, module.role));
    QEFF_ASSIGN_OR_RETURN(
        PackedLinear packed,
        PackedLinear::Create(weights.weight.view(), weights.bias, pool));
    result.linears_.push_back({&module, std::move(packed)});
  }
  model.ReleaseBlock(block);
  return result;
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

absl::Status HostBlock::RunAttention(const HostBlockContext& context,
                                     absl::Span<const int64_t> lengths,
                                     MatrixView<float> x) {
  const TransformerSpec& spec = *context.spec;
  ThreadPool& pool = *context.pool;
  HostScratch& scratch = *context.scratch;
  const int64_t rows = x.rows(), q_size = spec.q_size();
  const int64_t kv_size = spec.kv_size();
  const auto normed = scratch.Get(HostScratch::kNormed, rows, spec.hidden_size);
  ApplyNorm(spec, norms_.attention_norm, x, normed, pool);

  MatrixView<float> q, k, v;
  if (Find(LinearRole::kQkv) != nullptr) {
    const auto qkv = scratch.Get(HostScratch::kQ, rows, q_size + 2 * kv_size);
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kQkv, normed, qkv));
    q = qkv.Cols(0, q_size);
    k = qkv.Cols(q_size, kv_size);
    v = qkv.Cols(q_size + kv_size, kv_size);
  } else {
    q = scratch.Get(HostScratch::kQ, rows, q_size);
    k = scratch.Get(HostScratch::kK, rows, kv_size);
    v = scratch.Get(HostScratch::kV, rows, kv_size);
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kQ, normed, q));
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kK, normed, k));
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kV, normed, v));
  }
  if (spec.clip_qkv > 0) {
    for (const auto& part : {q, k, v}) {
      Clip(static_cast<float>(spec.clip_qkv), part);
    }
  }
  if (spec.qk_norm) {
    NormHeads(spec, norms_.q_norm, q, pool);
    NormHeads(spec, norms_.k_norm, k, pool);
  }
  if (spec.position == PositionKind::kRope) {
    RopeSequences(*context.rope, lengths, q, pool);
    RopeSequences(*context.rope, lengths, k, pool);
  }
  AttentionOptions options;
  options.num_heads = spec.num_heads;
  options.num_kv_heads = spec.num_kv_heads;
  options.head_dim = spec.head_dim;
  options.scale = static_cast<float>(spec.attention_scale);
  options.sliding_window = spec.sliding_window;
  options.alibi = context.alibi;
  const auto attention = scratch.Get(HostScratch::kAttention, rows, q_size);
  CausalAttention(options, lengths, q, k, v, attention, pool);

  const auto residual =
      scratch.Get(HostScratch::kResidual, rows, spec.hidden_size);
  QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kO, attention, residual));
  AddInParallel(x, residual, pool);
  return absl::OkStatus();
}

absl::Status HostBlock::RunFfn(const HostBlockContext& context,
                               MatrixView<float> x) {
  const TransformerSpec& spec = *context.spec;
  ThreadPool& pool = *context.pool;
  HostScratch& scratch = *context.scratch;
  const auto normed =
      scratch.Get(HostScratch::kNormed, x.rows(), spec.hidden_size);
  ApplyNorm(spec, norms_.ffn_norm, x, normed, pool);
  const auto up = scratch.Get(HostScratch::kUp, x.rows(), spec.ffn_size);
  MatrixView<float> inner = up;
  if (spec.gated_ffn) {
    inner = scratch.Get(HostScratch::kGate, x.rows(), spec.ffn_size);
    QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kGate, normed, inner));
  }
  QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kUp, normed, up));
  ForRows(x.rows(), spec.ffn_size, pool, [&](int64_t begin, int64_t count) {
    if (spec.gated_ffn) {
      ApplyGatedActivation(spec.activation, inner.Rows(begin, count),
                           up.Rows(begin, count));
    } else {
      ApplyActivation(spec.activation, inner.Rows(begin, count));
    }
  });
  const auto residual =
      scratch.Get(HostScratch::kResidual, x.rows(), spec.hidden_size);
  QEFF_RETURN_IF_ERROR(RunLinear(context, LinearRole::kDown, inner, residual));
  AddInParallel(x, residual, pool);
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
    QEFF_RETURN_IF_ERROR(RunAttention(
        context, lengths.subspan(first, last - first), x.Rows(row, rows)));
    row += rows;
    first = last;
  }
  QEFF_CHECK(row == x.rows());
  for (row = 0; row < x.rows(); row += context.chunk_tokens) {
    const int64_t rows = std::min(context.chunk_tokens, x.rows() - row);
    QEFF_RETURN_IF_ERROR(RunFfn(context, x.Rows(row, rows)));
  }
  return absl::OkStatus();
}

}  // namespace qeff
