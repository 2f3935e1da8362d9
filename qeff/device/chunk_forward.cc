// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/chunk_forward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "qeff/device/ops.h"
#include "qeff/kernels/matvec/matvec.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {
namespace internal_device {
namespace {

// Logits of more tokens at once would not be made faster, only take memory.
constexpr int64_t kLogitRows = 32;

// Less work than this, in bytes of keys and values read, is not worth another
// thread.
constexpr int64_t kMinBytesPerRange = 256 * 1024;

absl::Span<float> Row(MatrixView<float> m, int64_t row) {
  return absl::MakeSpan(m.row(row), static_cast<size_t>(m.cols()));
}

void ReadRow(const DeviceMatrix& matrix, int64_t row, absl::Span<float> out) {
  const TensorView view{matrix.view().dtype, Shape{matrix.rows, matrix.cols},
                        matrix.bytes};
  ReadFloats(view, row * matrix.cols, out);
}

const DeviceMatrix& Head(const DeviceModel& model) {
  return model.lm_head.weight.empty() ? model.token_embedding
                                      : model.lm_head.weight;
}

}  // namespace

int64_t ChunkForward::MaxLogitRows(const EngineOptions& options) {
  return std::max(options.batch_size,
                  std::min(options.prefill_chunk, kLogitRows));
}

ChunkForward::ChunkForward(const DeviceModel& model,
                           const EngineOptions& options, ThreadPool* pool)
    : model_(model),
      spec_(model.spec),
      pool_(pool),
      slopes_(static_cast<size_t>(spec_.num_heads), 0.0f),
      linears_(options.activations, pool),
      hidden_(options.prefill_chunk, spec_.hidden_size),
      normed_(options.prefill_chunk, spec_.hidden_size),
      projected_(options.prefill_chunk, spec_.hidden_size),
      q_(options.prefill_chunk, spec_.q_size()),
      attended_(options.prefill_chunk, spec_.q_size()),
      k_(options.prefill_chunk, spec_.kv_size()),
      v_(options.prefill_chunk, spec_.kv_size()),
      up_(options.prefill_chunk, spec_.ffn_size),
      gate_(spec_.gated_ffn ? options.prefill_chunk : 0, spec_.ffn_size),
      logit_input_(MaxLogitRows(options), spec_.hidden_size),
      logits_(MaxLogitRows(options), spec_.vocab_size),
      scores_(new float[static_cast<size_t>(pool->num_threads()) *
                        static_cast<size_t>(options.context_length)]) {
  for (int64_t slot = 0; slot < options.batch_size; ++slot) {
    caches_.emplace_back(spec_, options.context_length);
  }
  if (spec_.position == PositionKind::kRope) {
    frequencies_ = RopeFrequencies(spec_);
    cosines_ = Matrix<float>(options.prefill_chunk, spec_.head_dim / 2);
    sines_ = Matrix<float>(options.prefill_chunk, spec_.head_dim / 2);
  } else if (spec_.position == PositionKind::kAlibi) {
    const std::vector<double> slopes = AlibiSlopes(spec_);
    std::copy(slopes.begin(), slopes.end(), slopes_.begin());
  }
  ReserveLinears();
}

void ChunkForward::ReserveLinears() {
  for (const DeviceBlock& block : model_.blocks) {
    for (const DeviceLinear* linear : {&block.q, &block.k, &block.v, &block.o,
                                       &block.gate, &block.up, &block.down}) {
      if (linear->weight.empty()) continue;
      linears_.Reserve(linear->weight, hidden_.rows());
    }
  }
  linears_.Reserve(Head(model_), logits_.rows());
}

template <typename Body>
void ChunkForward::ForTokens(const Body& body) {
  const int64_t grain = CeilDiv<int64_t>(num_tokens(), pool_->num_threads());
  pool_->ParallelFor(num_tokens(), grain,
                     [&](int64_t begin, int64_t end, int /*thread*/) {
                       for (int64_t t = begin; t < end; ++t) body(t);
                     });
}

MatrixView<const float> ChunkForward::Run(absl::Span<const ChunkToken> tokens) {
  QEFF_CHECK(!tokens.empty() &&
             static_cast<int64_t>(tokens.size()) <= hidden_.rows());
  tokens_ = tokens;
  Embed();
  SetRotation();
  for (size_t i = 0; i < model_.blocks.size(); ++i) {
    RunBlock(model_.blocks[i], static_cast<int64_t>(i));
  }
  return Used(&hidden_);
}

void ChunkForward::Embed() {
  for (int64_t t = 0; t < num_tokens(); ++t) {
    const ChunkToken& token = tokens_[static_cast<size_t>(t)];
    const absl::Span<float> hidden = Row(Used(&hidden_), t);
    ReadRow(model_.token_embedding, token.id, hidden);
    if (spec_.position != PositionKind::kLearned) continue;
    const absl::Span<float> position = Row(Used(&projected_), t);
    ReadRow(model_.position_embedding, token.position, position);
    Add(position, hidden);
  }
}

void ChunkForward::SetRotation() {
  for (int64_t t = 0; t < num_tokens() && !frequencies_.empty(); ++t) {
    const int64_t position = tokens_[static_cast<size_t>(t)].position;
    for (size_t i = 0; i < frequencies_.size(); ++i) {
      const double angle = static_cast<double>(position) * frequencies_[i];
      cosines_.row(t)[i] = static_cast<float>(std::cos(angle));
      sines_.row(t)[i] = static_cast<float>(std::sin(angle));
    }
  }
}

void ChunkForward::Norm(const DeviceNorm& norm) {
  ForTokens([&](int64_t t) {
    Normalize(spec_.norm, spec_.norm_epsilon, norm, Row(Used(&hidden_), t),
              Row(Used(&normed_), t));
  });
}

// hidden += W x + b.
void ChunkForward::AddProduct(const DeviceLinear& linear) {
  linears_.Multiply(linear, Used(&projected_));
  ForTokens([&](int64_t t) {
    Add(Row(Used(&projected_), t), Row(Used(&hidden_), t));
  });
}

void ChunkForward::RunBlock(const DeviceBlock& block, int64_t layer) {
  Norm(block.attention_norm);
  RunQkv(block);
  RunAttention(layer);
  linears_.SetInput(Used(&attended_));
  AddProduct(block.o);

  Norm(block.ffn_norm);
  RunFfn(block);
  linears_.SetInput(Used(&up_));
  AddProduct(block.down);
}

void ChunkForward::RunQkv(const DeviceBlock& block) {
  linears_.SetInput(Used(&normed_));
  linears_.Multiply(block.q, Used(&q_));
  linears_.Multiply(block.k, Used(&k_));
  linears_.Multiply(block.v, Used(&v_));
  ForTokens([&](int64_t t) { FinishQkv(block, t); });
}

void ChunkForward::FinishQkv(const DeviceBlock& block, int64_t token) {
  const absl::Span<float> q = Row(Used(&q_), token);
  const absl::Span<float> k = Row(Used(&k_), token);
  if (spec_.clip_qkv > 0) {
    const float limit = static_cast<float>(spec_.clip_qkv);
    Clamp(limit, q);
    Clamp(limit, k);
    Clamp(limit, Row(Used(&v_), token));
  }
  if (spec_.qk_norm) {
    NormalizeHeads(spec_.norm_epsilon, block.q_norm, q);
    NormalizeHeads(spec_.norm_epsilon, block.k_norm, k);
  }
  if (spec_.position == PositionKind::kRope) {
    const absl::Span<float> cosines = Row(Used(&cosines_), token);
    const absl::Span<float> sines = Row(Used(&sines_), token);
    Rotate(cosines, sines, q);
    Rotate(cosines, sines, k);
  }
}

void ChunkForward::RunAttention(int64_t layer) {
  int64_t positions = 0;  // that all tokens see
  for (int64_t t = 0; t < num_tokens(); ++t) {
    const ChunkToken& token = tokens_[static_cast<size_t>(t)];
    caches_[static_cast<size_t>(token.slot)].Store(
        layer, token.position, Row(Used(&k_), t), Row(Used(&v_), t));
    positions += token.position + 1;
  }
  const int64_t tasks = num_tokens() * spec_.num_heads;
  const int64_t head_bytes =
      CeilDiv(positions, num_tokens()) * spec_.head_dim * 8;
  const int64_t grain = BalancedGrain(tasks, pool_->num_threads(),
                                      CeilDiv(kMinBytesPerRange, head_bytes));
  const int64_t context_length = caches_[0].context_length();
  pool_->ParallelFor(tasks, grain, [&](int64_t begin, int64_t end, int thread) {
    float* scores = scores_.get() + thread * context_length;
    for (int64_t i = begin; i < end; ++i) {
      RunHead(layer, i / spec_.num_heads, i % spec_.num_heads, scores);
    }
  });
}

void ChunkForward::RunHead(int64_t layer, int64_t token, int64_t head,
                           float* scores) {
  const ChunkToken& place = tokens_[static_cast<size_t>(token)];
  const KvCache& cache = caches_[static_cast<size_t>(place.slot)];
  const int64_t kv_head = head / (spec_.num_heads / spec_.num_kv_heads);
  const int64_t end = place.position + 1;
  const int64_t begin = spec_.sliding_window > 0
                            ? std::max<int64_t>(0, end - spec_.sliding_window)
                            : 0;
  const size_t head_dim = static_cast<size_t>(spec_.head_dim);
  const size_t first = static_cast<size_t>(head) * head_dim;
  const absl::Span<float> weights(scores, static_cast<size_t>(end - begin));
  MatVec(cache.Keys(layer, kv_head, begin, end),
         Row(Used(&q_), token).subspan(first, head_dim), weights);
  ScaledSoftmax(static_cast<float>(spec_.attention_scale),
                slopes_[static_cast<size_t>(head)], weights);
  MatVec(cache.Values(layer, kv_head, begin, end), weights,
         Row(Used(&attended_), token).subspan(first, head_dim));
}

// up = act(Gate x) * (Up x), or act(Up x).
void ChunkForward::RunFfn(const DeviceBlock& block) {
  linears_.SetInput(Used(&normed_));
  linears_.Multiply(block.up, Used(&up_));
  if (spec_.gated_ffn) linears_.Multiply(block.gate, Used(&gate_));
  ForTokens([&](int64_t t) {
    const absl::Span<float> up = Row(Used(&up_), t);
    if (!spec_.gated_ffn) return Activate(spec_.activation, up);
    const absl::Span<float> gate = Row(Used(&gate_), t);
    Activate(spec_.activation, gate);
    Multiply(gate, up);
  });
}

MatrixView<const float> ChunkForward::Logits(MatrixView<const float> hidden) {
  const int64_t count = hidden.rows();
  QEFF_CHECK(count >= 1 && count <= logits_.rows());
  const MatrixView<float> input(logit_input_.data(), count, spec_.hidden_size);
  for (int64_t t = 0; t < count; ++t) {
    const absl::Span<const float> row(hidden.row(t), logit_input_.cols());
    Normalize(spec_.norm, spec_.norm_epsilon, model_.final_norm, row,
              Row(input, t));
  }
  const MatrixView<float> logits(logits_.data(), count, spec_.vocab_size);
  linears_.SetInput(input);
  linears_.Multiply(Head(model_), logits);
  return logits;
}

}  // namespace internal_device
}  // namespace qeff
