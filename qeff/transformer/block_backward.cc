// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/block_backward.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>

#include "qeff/transformer/activation.h"
#include "qeff/transformer/block_steps.h"
#include "qeff/transformer/for_rows.h"
#include "qeff/transformer/linear.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

LinearView ViewOf(const LinearWeights& linear) {
  return {linear.weight.view(), linear.bias};
}

LinearGradientView ViewOf(LinearWeights& linear) {
  return {linear.weight.view(), absl::MakeSpan(linear.bias)};
}

NormWeights ZerosLike(const NormWeights& norm) {
  return {std::vector<float>(norm.weight.size()),
          std::vector<float>(norm.bias.size())};
}

LinearWeights ZerosLike(const LinearWeights& linear) {
  return {Matrix<float>(linear.weight.rows(), linear.weight.cols()),
          std::vector<float>(linear.bias.size())};
}

void CheckShape(const LinearWeights& linear, int64_t out, int64_t in) {
  QEFF_CHECK(linear.weight.rows() == out && linear.weight.cols() == in);
  QEFF_CHECK(linear.bias.empty() ||
             static_cast<int64_t>(linear.bias.size()) == out);
}

void CheckShapes(const TransformerSpec& spec, const BlockWeights& weights) {
  const int64_t hidden = spec.hidden_size;
  CheckShape(weights.q, spec.q_size(), hidden);
  CheckShape(weights.k, spec.kv_size(), hidden);
  CheckShape(weights.v, spec.kv_size(), hidden);
  CheckShape(weights.o, hidden, spec.q_size());
  if (spec.gated_ffn) CheckShape(weights.gate, spec.ffn_size, hidden);
  CheckShape(weights.up, spec.ffn_size, hidden);
  CheckShape(weights.down, hidden, spec.ffn_size);
}

void CheckSameShape(const LinearWeights& a, const LinearWeights& b) {
  CheckShape(a, b.weight.rows(), b.weight.cols());
  QEFF_CHECK(a.bias.size() == b.bias.size());
}

}  // namespace

BlockWeights ZerosLike(const BlockWeights& weights) {
  BlockWeights zeros;
  zeros.attention_norm = ZerosLike(weights.attention_norm);
  zeros.ffn_norm = ZerosLike(weights.ffn_norm);
  zeros.q_norm = ZerosLike(weights.q_norm);
  zeros.k_norm = ZerosLike(weights.k_norm);
  zeros.q = ZerosLike(weights.q);
  zeros.k = ZerosLike(weights.k);
  zeros.v = ZerosLike(weights.v);
  zeros.o = ZerosLike(weights.o);
  zeros.gate = ZerosLike(weights.gate);
  zeros.up = ZerosLike(weights.up);
  zeros.down = ZerosLike(weights.down);
  return zeros;
}

DifferentiableBlock::DifferentiableBlock(const BlockContext& context)
    : context_(context) {
  QEFF_CHECK(context.spec != nullptr && context.pool != nullptr);
  QEFF_CHECK(context.rope != nullptr ||
             context.spec->position != PositionKind::kRope);
}

AttentionOptions DifferentiableBlock::attention_options() const {
  return AttentionOf(*context_.spec, context_.alibi);
}

bool DifferentiableBlock::HasSeparateHeads() const {
  const TransformerSpec& spec = *context_.spec;
  // The norm's backward needs its input, the clip's its result. Rotation needs
  // neither.
  return spec.qk_norm ||
         (spec.clip_qkv > 0 && spec.position == PositionKind::kRope);
}

DifferentiableBlock::Heads DifferentiableBlock::HeadsOf(
    const BlockActivations& kept) const {
  if (HasSeparateHeads()) return {kept.heads_q_.view(), kept.heads_k_.view()};
  return {kept.q_.view(), kept.k_.view()};
}

void DifferentiableBlock::Forward(const BlockWeights& weights,
                                  absl::Span<const int64_t> lengths,
                                  MatrixView<const float> x,
                                  MatrixView<float> y, BlockActivations& kept) {
  CheckShapes(*context_.spec, weights);
  QEFF_CHECK(x.cols() == context_.spec->hidden_size);
  QEFF_CHECK(y.rows() == x.rows() && y.cols() == x.cols());
  kept.lengths_.assign(lengths.begin(), lengths.end());
  ForwardAttention(weights, x, kept);
  ForwardFfn(weights, y, kept);
}

void DifferentiableBlock::ForwardAttention(const BlockWeights& weights,
                                           MatrixView<const float> x,
                                           BlockActivations& kept) {
  const TransformerSpec& spec = *context_.spec;
  ThreadPool& pool = *context_.pool;
  const int64_t rows = x.rows();
  const auto input = kept.input_.Get(rows, spec.hidden_size);
  ApplyNorm(spec, weights.attention_norm, x, input, pool);
  ApplyLinear(input, ViewOf(weights.q), kept.q_.Get(rows, spec.q_size()), pool,
              products_);
  ApplyLinear(input, ViewOf(weights.k), kept.k_.Get(rows, spec.kv_size()), pool,
              products_);
  ApplyLinear(input, ViewOf(weights.v), kept.v_.Get(rows, spec.kv_size()), pool,
              products_);
  ForwardHeads(weights, kept);
  const Heads heads = HeadsOf(kept);
  const auto attention = kept.attention_.Get(rows, spec.q_size());
  CausalAttention(attention_options(), kept.lengths_, heads.q, heads.k,
                  kept.v_.view(), attention, pool);
  const auto middle = kept.middle_.Get(rows, spec.hidden_size);
  CopyRows(x, middle, pool);
  AddLinear(attention, ViewOf(weights.o), middle, pool, products_);
}

void DifferentiableBlock::ForwardHeads(const BlockWeights& weights,
                                       BlockActivations& kept) {
  const TransformerSpec& spec = *context_.spec;
  ThreadPool& pool = *context_.pool;
  const MatrixView<float> q = kept.q_.view(), k = kept.k_.view();
  if (spec.clip_qkv > 0) {
    for (const auto& part : {q, k, kept.v_.view()}) {
      ForRows(
          part.rows(), part.cols(), pool, [&](int64_t begin, int64_t count) {
            Clip(static_cast<float>(spec.clip_qkv), part.Rows(begin, count));
          });
    }
  }
  if (HasSeparateHeads()) {
    kept.heads_q_.Get(q.rows(), q.cols());
    kept.heads_k_.Get(k.rows(), k.cols());
  }
  const Heads heads = HeadsOf(kept);
  if (spec.qk_norm) {
    NormHeads(spec, weights.q_norm, q, heads.q, pool);
    NormHeads(spec, weights.k_norm, k, heads.k, pool);
  } else if (HasSeparateHeads()) {
    CopyRows(q, heads.q, pool);
    CopyRows(k, heads.k, pool);
  }
  if (spec.position == PositionKind::kRope) {
    RotateSequences(*context_.rope, kept.lengths_, heads.q, pool);
    RotateSequences(*context_.rope, kept.lengths_, heads.k, pool);
  }
}

void DifferentiableBlock::ForwardFfn(const BlockWeights& weights,
                                     MatrixView<float> y,
                                     BlockActivations& kept) {
  const TransformerSpec& spec = *context_.spec;
  ThreadPool& pool = *context_.pool;
  const int64_t rows = y.rows();
  const auto middle = kept.middle_.view();
  const auto input = kept.ffn_input_.Get(rows, spec.hidden_size);
  ApplyNorm(spec, weights.ffn_norm, middle, input, pool);
  const auto up = kept.up_.Get(rows, spec.ffn_size);
  ApplyLinear(input, ViewOf(weights.up), up, pool, products_);
  MatrixView<float> gate = up;  // what is activated
  if (spec.gated_ffn) {
    gate = kept.gate_.Get(rows, spec.ffn_size);
    ApplyLinear(input, ViewOf(weights.gate), gate, pool, products_);
  }
  const auto inner = kept.inner_.Get(rows, spec.ffn_size);
  ForRows(rows, spec.ffn_size, pool, [&](int64_t begin, int64_t count) {
    const auto to = inner.Rows(begin, count);
    for (int64_t r = 0; r < count; ++r) {
      std::copy_n(gate.row(begin + r), spec.ffn_size, to.row(r));
    }
    if (spec.gated_ffn) {
      ApplyGatedActivation(spec.activation, to, up.Rows(begin, count));
    } else {
      ApplyActivation(spec.activation, to);
    }
  });
  CopyRows(middle, y, pool);
  AddLinear(inner, ViewOf(weights.down), y, pool, products_);
}

void DifferentiableBlock::Backward(const BlockWeights& weights,
                                   MatrixView<const float> x,
                                   MatrixView<const float> dy,
                                   BlockActivations& kept, MatrixView<float> dx,
                                   BlockWeights& gradient,
                                   const HeadsGradient& heads) {
  CheckShapes(*context_.spec, weights);
  QEFF_CHECK(dy.rows() == x.rows() && dy.cols() == x.cols());
  QEFF_CHECK(kept.input_.view().rows() == x.rows());
  for (const auto& part :
       {&BlockWeights::q, &BlockWeights::k, &BlockWeights::v, &BlockWeights::o,
        &BlockWeights::gate, &BlockWeights::up, &BlockWeights::down}) {
    CheckSameShape(gradient.*part, weights.*part);
  }
  const auto dmiddle = BackwardFfn(weights, dy, kept, gradient);
  BackwardAttention(weights, dmiddle, kept, gradient, heads);
  BackwardInput(weights, x, dmiddle, kept, dx, gradient);
}

MatrixView<float> DifferentiableBlock::BackwardFfn(const BlockWeights& weights,
                                                   MatrixView<const float> dy,
                                                   BlockActivations& kept,
                                                   BlockWeights& gradient) {
  const TransformerSpec& spec = *context_.spec;
  ThreadPool& pool = *context_.pool;
  const int64_t rows = dy.rows();
  LinearWeightsBackward(kept.inner_.view(), dy, ViewOf(gradient.down), pool,
                        products_);
  const auto dinner = dinner_.Get(rows, spec.ffn_size);
  LinearInputBackward(dy, weights.down.weight.view(), SgemmUpdate::kSet, dinner,
                      pool, products_);
  // Gradients take the place of gate and up.
  const auto gate = kept.gate_.view(), up = kept.up_.view();
  ForRows(rows, spec.ffn_size, pool, [&](int64_t begin, int64_t count) {
    const auto d = dinner.Rows(begin, count);
    if (spec.gated_ffn) {
      ApplyGatedActivationBackward(spec.activation, gate.Rows(begin, count),
                                   up.Rows(begin, count), d);
    } else {
      ApplyActivationBackward(spec.activation, up.Rows(begin, count), d);
    }
  });
  const auto input = kept.ffn_input_.view();
  LinearWeightsBackward(input, up, ViewOf(gradient.up), pool, products_);
  const auto dmiddle = dmiddle_.Get(rows, spec.hidden_size);
  LinearInputBackward(up, weights.up.weight.view(), SgemmUpdate::kSet, dmiddle,
                      pool, products_);
  if (spec.gated_ffn) {
    LinearWeightsBackward(input, gate, ViewOf(gradient.gate), pool, products_);
    LinearInputBackward(gate, weights.gate.weight.view(), SgemmUpdate::kAdd,
                        dmiddle, pool, products_);
  }
  NormBackward(spec, weights.ffn_norm, kept.middle_.view(), dmiddle, dmiddle,
               gradient.ffn_norm, pool);
  AddRows(dy, dmiddle, pool);
  return dmiddle;
}

void DifferentiableBlock::BackwardAttention(
    const BlockWeights& weights, MatrixView<const float> dmiddle,
    BlockActivations& kept, BlockWeights& gradient,
    const HeadsGradient& heads_gradient) {
  const TransformerSpec& spec = *context_.spec;
  ThreadPool& pool = *context_.pool;
  const int64_t rows = dmiddle.rows();
  LinearWeightsBackward(kept.attention_.view(), dmiddle, ViewOf(gradient.o),
                        pool, products_);
  const auto dattention = dattention_.Get(rows, spec.q_size());
  LinearInputBackward(dmiddle, weights.o.weight.view(), SgemmUpdate::kSet,
                      dattention, pool, products_);
  const Heads heads = HeadsOf(kept);
  CausalAttentionBackward(
      attention_options(), kept.lengths_, heads.q, heads.k, kept.v_.view(),
      dattention, dq_.Get(rows, spec.q_size()), dk_.Get(rows, spec.kv_size()),
      dv_.Get(rows, spec.kv_size()), pool, attention_);
  if (heads_gradient) {
    heads_gradient(heads.q, heads.k, dq_.view(), dk_.view());
  }
  BackwardHeads(weights, kept, gradient);
}

void DifferentiableBlock::BackwardHeads(const BlockWeights& weights,
                                        BlockActivations& kept,
                                        BlockWeights& gradient) {
  const TransformerSpec& spec = *context_.spec;
  ThreadPool& pool = *context_.pool;
  if (spec.position == PositionKind::kRope) {
    RotateSequencesBackward(*context_.rope, kept.lengths_, dq_.view(), pool);
    RotateSequencesBackward(*context_.rope, kept.lengths_, dk_.view(), pool);
  }
  if (spec.qk_norm) {
    NormHeadsBackward(spec, weights.q_norm, kept.q_.view(), dq_.view(),
                      gradient.q_norm, pool);
    NormHeadsBackward(spec, weights.k_norm, kept.k_.view(), dk_.view(),
                      gradient.k_norm, pool);
  }
  if (spec.clip_qkv <= 0) return;
  const auto clip = [&](MatrixView<const float> clipped, MatrixView<float> dx) {
    ForRows(dx.rows(), dx.cols(), pool, [&](int64_t begin, int64_t count) {
      ClipBackward(static_cast<float>(spec.clip_qkv),
                   clipped.Rows(begin, count), dx.Rows(begin, count));
    });
  };
  clip(kept.q_.view(), dq_.view());
  clip(kept.k_.view(), dk_.view());
  clip(kept.v_.view(), dv_.view());
}

void DifferentiableBlock::BackwardInput(const BlockWeights& weights,
                                        MatrixView<const float> x,
                                        MatrixView<const float> dmiddle,
                                        const BlockActivations& kept,
                                        MatrixView<float> dx,
                                        BlockWeights& gradient) {
  const TransformerSpec& spec = *context_.spec;
  ThreadPool& pool = *context_.pool;
  const auto input = kept.input_.view();
  const auto dinput = dinput_.Get(x.rows(), spec.hidden_size);
  LinearWeightsBackward(input, dq_.view(), ViewOf(gradient.q), pool, products_);
  LinearWeightsBackward(input, dk_.view(), ViewOf(gradient.k), pool, products_);
  LinearWeightsBackward(input, dv_.view(), ViewOf(gradient.v), pool, products_);
  LinearInputBackward(dq_.view(), weights.q.weight.view(), SgemmUpdate::kSet,
                      dinput, pool, products_);
  LinearInputBackward(dk_.view(), weights.k.weight.view(), SgemmUpdate::kAdd,
                      dinput, pool, products_);
  LinearInputBackward(dv_.view(), weights.v.weight.view(), SgemmUpdate::kAdd,
                      dinput, pool, products_);
  NormBackward(spec, weights.attention_norm, x, dinput, dinput,
               gradient.attention_norm, pool);
  if (dx.data() == nullptr) return;
  CopyRows(dmiddle, dx, pool);
  AddRows(dinput, dx, pool);
}

void DifferentiableBlock::Run(const BlockWeights& weights,
                              absl::Span<const int64_t> lengths,
                              MatrixView<const float> x, int64_t chunk_tokens,
                              OutputGradient loss, MatrixView<float> dx,
                              BlockWeights& gradient) {
  int64_t row = 0;
  for (size_t first = 0; first < lengths.size();) {
    size_t last = first;
    int64_t rows = 0;
    do {
      rows += lengths[last++];
    } while (last < lengths.size() && rows + lengths[last] <= chunk_tokens);
    const auto part = x.Rows(row, rows);
    const auto y = y_.Get(rows, x.cols()), dy = dy_.Get(rows, x.cols());
    Forward(weights, lengths.subspan(first, last - first), part, y, chunk_);
    loss(row, y, dy);
    Backward(weights, part, dy, chunk_,
             dx.data() == nullptr ? dx : dx.Rows(row, rows), gradient);
    row += rows;
    first = last;
  }
  QEFF_CHECK(row == x.rows());
}

}  // namespace qeff
