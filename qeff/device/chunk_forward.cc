// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/chunk_forward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "qeff/kernels/attention/attend.h"
#include "qeff/kernels/attention/store_kv.h"
#include "qeff/kernels/elementwise/activate.h"
#include "qeff/kernels/elementwise/arithmetic.h"
#include "qeff/kernels/elementwise/norm.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {
namespace internal_device {
namespace {

// Logits of more tokens at once would not be made faster, only take memory.
constexpr int64_t kLogitRows = 32;

// Tokens of a call of Attend: enough that it reads the cache once for many
// queries, and few enough that threads share a prompt.
constexpr int64_t kAttendTokens = 32;

// Positions times heads that are not worth another thread: attention to them
// takes about 3 us. To begin and end a loop takes a quarter of one while
// threads are awake.
constexpr int64_t kMinPositionHeads = 512;

// Heads of tokens that are not worth another thread to store: keys go to as
// many lines of memory as they have dimensions, which takes half a microsecond.
constexpr int64_t kMinStoredHeads = 8;

// Elements that are not worth another thread, which may have to be woken: a
// norm of 2048 of them takes 1.1 us, an activation of 5632 takes 2.3,
// waking 13.
constexpr int64_t kMinElems = 32768;

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
                           const EngineOptions& options, KvCache* cache,
                           ThreadPool* pool)
    : model_(model),
      spec_(model.spec),
      pool_(pool),
      cache_(cache),
      linears_(options.activations, pool, &times_),
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
      attend_scratch_bytes_(AttendScratchBytes(cache->layout())) {
  attend_scratch_ = AlignedArray<uint8_t>(
      static_cast<size_t>(attend_scratch_bytes_ * pool->num_threads()));
  slot_ranges_.reserve(static_cast<size_t>(options.prefill_chunk));
  attend_ranges_.reserve(static_cast<size_t>(options.prefill_chunk));
  if (spec_.position == PositionKind::kRope) {
    frequencies_ = RopeFrequencies(spec_);
    cosines_ = Matrix<float>(options.prefill_chunk, spec_.head_dim / 2);
    sines_ = Matrix<float>(options.prefill_chunk, spec_.head_dim / 2);
  } else if (spec_.position == PositionKind::kAlibi) {
    const std::vector<double> slopes = AlibiSlopes(spec_);
    slopes_.assign(slopes.begin(), slopes.end());
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

// For the heads of a token.
void ChunkForward::EvenOutKeys(const CachedKeys& keys, absl::Span<float> k,
                               absl::Span<float> q) const {
  const size_t head_dim = static_cast<size_t>(spec_.head_dim);
  const size_t group_size =
      static_cast<size_t>(spec_.num_heads / spec_.num_kv_heads) * head_dim;
  for (size_t i = 0; i < k.size(); ++i) {
    k[i] = (k[i] - keys.mean[i]) / keys.scale[i];
  }
  for (size_t i = 0; i < q.size(); ++i) {
    q[i] *= keys.scale[i / group_size * head_dim + i % head_dim];
  }
}

template <typename Body>
void ChunkForward::ForTokens(int64_t elems, const Body& body) {
  const int64_t grain = BalancedGrain(num_tokens(), pool_->num_threads(),
                                      CeilDiv(kMinElems, elems));
  pool_->ParallelFor(num_tokens(), grain,
                     [&](int64_t begin, int64_t end, int /*thread*/) {
                       for (int64_t t = begin; t < end; ++t) body(t);
                     });
}

MatrixView<const float> ChunkForward::Run(absl::Span<const ChunkToken> tokens) {
  QEFF_CHECK(!tokens.empty() &&
             static_cast<int64_t>(tokens.size()) <= hidden_.rows());
  tokens_ = tokens;
  times_.Start();
  Embed();
  SetRotation();
  SplitAttention();
  times_.Add(Op::kEmbed);
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
    AddInPlace(position, hidden);
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

void ChunkForward::NormRow(const DeviceNorm& norm, absl::Span<const float> x,
                           absl::Span<float> out) const {
  const auto normalize = spec_.norm == NormKind::kRmsNorm ? RmsNorm : LayerNorm;
  normalize(spec_.norm_epsilon, norm.weight, norm.bias, x, out);
}

void ChunkForward::Norm(const DeviceNorm& norm) {
  ForTokens(spec_.hidden_size, [&](int64_t t) {
    NormRow(norm, Row(Used(&hidden_), t), Row(Used(&normed_), t));
  });
  times_.Add(Op::kNorm);
}

// hidden += W x + b.
void ChunkForward::AddProduct(const DeviceLinear& linear) {
  linears_.Multiply(linear, Used(&projected_));
  times_.Add(Op::kProduct);
  ForTokens(spec_.hidden_size, [&](int64_t t) {
    AddInPlace(Row(Used(&projected_), t), Row(Used(&hidden_), t));
  });
  times_.Add(Op::kNorm);
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
  linears_.MultiplyAll(
      {{&block.q, Used(&q_)}, {&block.k, Used(&k_)}, {&block.v, Used(&v_)}});
  times_.Add(Op::kProduct);
  ForTokens(spec_.q_size() + 2 * spec_.kv_size(),
            [&](int64_t t) { FinishQkv(block, t); });
  times_.Add(Op::kRope);
}

void ChunkForward::FinishQkv(const DeviceBlock& block, int64_t token) {
  const absl::Span<float> q = Row(Used(&q_), token);
  const absl::Span<float> k = Row(Used(&k_), token);
  if (spec_.clip_qkv > 0) {
    const float limit = static_cast<float>(spec_.clip_qkv);
    ClampInPlace(limit, q);
    ClampInPlace(limit, k);
    ClampInPlace(limit, Row(Used(&v_), token));
  }
  if (spec_.qk_norm) {
    RmsNormHeads(spec_.norm_epsilon, block.q_norm, q);
    RmsNormHeads(spec_.norm_epsilon, block.k_norm, k);
  }
  if (spec_.position == PositionKind::kRope) {
    const absl::Span<float> cosines = Row(Used(&cosines_), token);
    const absl::Span<float> sines = Row(Used(&sines_), token);
    RotateHeads(cosines, sines, q);
    RotateHeads(cosines, sines, k);
  }
  if (cache_->layout().dtype() == DType::kI8 && !block.cached_keys.empty()) {
    EvenOutKeys(block.cached_keys, k, q);
  }
}

// The tokens of each slot, and those in pieces.
void ChunkForward::SplitAttention() {
  slot_ranges_.clear();
  attend_ranges_.clear();
  for (int64_t begin = 0, end; begin < num_tokens(); begin = end) {
    const int64_t slot = tokens_[static_cast<size_t>(begin)].slot;
    end = begin + 1;
    while (end < num_tokens() &&
           tokens_[static_cast<size_t>(end)].slot == slot) {
      ++end;
    }
    slot_ranges_.push_back({begin, end});
    for (int64_t t = begin; t < end; t += kAttendTokens) {
      attend_ranges_.push_back({t, std::min(end, t + kAttendTokens)});
    }
  }
}

void ChunkForward::RunAttention(int64_t layer) {
  const int64_t kv_heads = spec_.num_kv_heads;
  // Calls body(range, kv_head, thread) for all of both.
  const auto for_heads = [&](const std::vector<TokenRange>& ranges,
                             int64_t min_grain, const auto& body) {
    const int64_t count = static_cast<int64_t>(ranges.size()) * kv_heads;
    const int64_t grain = BalancedGrain(count, pool_->num_threads(), min_grain);
    pool_->ParallelFor(count, grain,
                       [&](int64_t begin, int64_t end, int thread) {
                         for (int64_t i = begin; i < end; ++i) {
                           body(ranges[static_cast<size_t>(i / kv_heads)],
                                i % kv_heads, thread);
                         }
                       });
  };
  const int64_t tokens_per_range =
      CeilDiv<int64_t>(num_tokens(), static_cast<int64_t>(slot_ranges_.size()));
  for_heads(slot_ranges_, CeilDiv(kMinStoredHeads, tokens_per_range),
            [&](const TokenRange& range, int64_t kv_head, int) {
              StoreHead(layer, range, kv_head);
            });
  const int64_t group = spec_.num_heads / kv_heads;
  int64_t positions = 1;
  for (const ChunkToken& token : tokens_) positions += token.position;
  const int64_t per_range =
      CeilDiv<int64_t>(positions, static_cast<int64_t>(attend_ranges_.size()));
  for_heads(attend_ranges_, CeilDiv(kMinPositionHeads, per_range * group),
            [&](const TokenRange& range, int64_t kv_head, int thread) {
              AttendHead(layer, range, kv_head, thread);
            });
  times_.Add(Op::kAttention);
}

void ChunkForward::StoreHead(int64_t layer, const TokenRange& range,
                             int64_t kv_head) {
  const ChunkToken& first = tokens_[static_cast<size_t>(range.begin)];
  const size_t offset =
      static_cast<size_t>(range.begin * k_.cols() + kv_head * spec_.head_dim);
  StoreKv(cache_->layout(), cache_->Region(layer, first.slot, kv_head),
          first.position, range.end - range.begin, k_.span().subspan(offset),
          k_.cols(), v_.span().subspan(offset), v_.cols());
}

void ChunkForward::AttendHead(int64_t layer, const TokenRange& range,
                              int64_t kv_head, int thread) {
  const ChunkToken& first = tokens_[static_cast<size_t>(range.begin)];
  AttendOptions options;
  options.heads = spec_.num_heads / spec_.num_kv_heads;
  options.scale = static_cast<float>(spec_.attention_scale);
  options.sliding_window = spec_.sliding_window;
  if (!slopes_.empty()) {
    options.slopes = absl::MakeConstSpan(slopes_).subspan(
        static_cast<size_t>(kv_head * options.heads),
        static_cast<size_t>(options.heads));
  }
  const size_t offset = static_cast<size_t>(
      range.begin * q_.cols() + kv_head * options.heads * spec_.head_dim);
  AttendTokens tokens;
  tokens.first_position = first.position;
  tokens.tokens = range.end - range.begin;
  tokens.q = q_.span().subspan(offset);
  tokens.out = attended_.span().subspan(offset);
  tokens.q_stride_elems = tokens.out_stride_elems = q_.cols();
  Attend(cache_->layout(), cache_->Region(layer, first.slot, kv_head), options,
         tokens,
         attend_scratch_.span().subspan(
             static_cast<size_t>(thread * attend_scratch_bytes_),
             static_cast<size_t>(attend_scratch_bytes_)));
}

// up = act(Gate x) * (Up x), or act(Up x).
void ChunkForward::RunFfn(const DeviceBlock& block) {
  linears_.SetInput(Used(&normed_));
  if (spec_.gated_ffn) {
    linears_.MultiplyAll(
        {{&block.gate, Used(&gate_)}, {&block.up, Used(&up_)}});
  } else {
    linears_.Multiply(block.up, Used(&up_));
  }
  times_.Add(Op::kProduct);
  ForTokens(spec_.ffn_size, [&](int64_t t) {
    const absl::Span<float> up = Row(Used(&up_), t);
    if (!spec_.gated_ffn) return ActivateInPlace(spec_.activation, up);
    ActivateGate(spec_.activation, Row(Used(&gate_), t), up);
  });
  times_.Add(Op::kActivation);
}

MatrixView<const float> ChunkForward::Logits(MatrixView<const float> hidden) {
  const int64_t count = hidden.rows();
  QEFF_CHECK(count >= 1 && count <= logits_.rows());
  const MatrixView<float> input(logit_input_.data(), count, spec_.hidden_size);
  times_.Start();
  for (int64_t t = 0; t < count; ++t) {
    const absl::Span<const float> row(hidden.row(t), logit_input_.cols());
    NormRow(model_.final_norm, row, Row(input, t));
  }
  const MatrixView<float> logits(logits_.data(), count, spec_.vocab_size);
  linears_.SetInput(input);
  linears_.Multiply(Head(model_), logits);
  times_.Add(Op::kLogits);
  return logits;
}

}  // namespace internal_device
}  // namespace qeff
