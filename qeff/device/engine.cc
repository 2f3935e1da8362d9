// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/engine.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/device/kv_cache.h"
#include "qeff/device/ops.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kMaxContextLength = int64_t{1} << 24;

// Fewer bytes of weights are not worth another thread: one reads 256 KiB in
// about 13 us, which is what waking a thread takes.
constexpr int64_t kMinBytesPerRange = 256 * 1024;

absl::Status CheckContextLength(const TransformerSpec& spec,
                                int64_t context_length) {
  int64_t limit = kMaxContextLength;
  if (spec.position == PositionKind::kLearned) {
    limit = std::min(limit, spec.max_positions);
  }
  if (context_length >= 1 && context_length <= limit) return absl::OkStatus();
  return InvalidInputError("context_length: expected 1 to ", limit, ", found ",
                           context_length);
}

AlignedArray<float> Floats(int64_t size) {
  return AlignedArray<float>(static_cast<size_t>(size));
}

void ReadRow(const DeviceMatrix& matrix, int64_t row, absl::Span<float> out) {
  const TensorView view{std::get<FloatRows>(matrix.layout).dtype,
                        Shape{matrix.rows, matrix.cols}, matrix.bytes};
  ReadFloats(view, row * matrix.cols, out);
}

}  // namespace

class Engine::Impl {
 public:
  Impl(std::shared_ptr<const DeviceModel> model, ThreadPool* pool,
       int64_t context_length);

  absl::Status Check(absl::Span<const int32_t> tokens) const;

  // Runs one token; `hidden_` is then the output of the last block.
  void RunToken(int32_t token);
  absl::Span<const float> Logits();

  void Reset() { position_ = 0; }
  int64_t position() const { return position_; }
  int64_t context_length() const { return context_length_; }
  const DeviceModel& model() const { return *model_; }

 private:
  void Embed(int32_t token);
  void SetRotation();
  void RunBlock(const DeviceBlock& block, int64_t layer);
  void RunQkv(const DeviceBlock& block);
  void MultiplyQkv(const DeviceBlock& block);
  void RunAttention(int64_t layer);
  void RunHead(int64_t layer, int64_t head, float* scores);
  void RunFfn(const DeviceBlock& block);
  void Norm(const DeviceNorm& norm);

  // Calls body(begin, end) for ranges of `rows` rows of weights like `w`'s.
  template <typename Body>
  void ForRows(const DeviceMatrix& w, int64_t rows, const Body& body);

  // out = W x + b.
  void Linear(const DeviceLinear& linear, absl::Span<const float> x,
              absl::Span<float> out);
  static void LinearRows(const DeviceLinear& linear, int64_t begin, int64_t end,
                         absl::Span<const float> x, absl::Span<float> out);

  const std::shared_ptr<const DeviceModel> model_;
  const TransformerSpec& spec_;
  ThreadPool* const pool_;
  const int64_t context_length_;
  int64_t position_ = 0;

  std::vector<double> frequencies_;  // [head_dim / 2] with rope
  std::vector<float> slopes_;        // [num_heads], 0 without ALiBi
  KvCache cache_;

  // Of the token that runs.
  AlignedArray<float> hidden_, normed_, projected_;  // [hidden_size]
  AlignedArray<float> q_, attended_;                 // [q_size]
  AlignedArray<float> k_, v_;                        // [kv_size]
  AlignedArray<float> cosines_, sines_;              // [head_dim / 2]
  AlignedArray<float> up_, gate_;                    // [ffn_size]
  AlignedArray<float> logits_;                       // [vocab_size]
  std::unique_ptr<float[]> scores_;  // [num_threads, context_length]
};

Engine::Impl::Impl(std::shared_ptr<const DeviceModel> model, ThreadPool* pool,
                   int64_t context_length)
    : model_(std::move(model)),
      spec_(model_->spec),
      pool_(pool),
      context_length_(context_length),
      slopes_(static_cast<size_t>(spec_.num_heads), 0.0f),
      cache_(spec_, context_length),
      hidden_(Floats(spec_.hidden_size)),
      normed_(Floats(spec_.hidden_size)),
      projected_(Floats(spec_.hidden_size)),
      q_(Floats(spec_.q_size())),
      attended_(Floats(spec_.q_size())),
      k_(Floats(spec_.kv_size())),
      v_(Floats(spec_.kv_size())),
      up_(Floats(spec_.ffn_size)),
      gate_(Floats(spec_.gated_ffn ? spec_.ffn_size : 0)),
      logits_(Floats(spec_.vocab_size)),
      scores_(new float[static_cast<size_t>(pool->num_threads()) *
                        static_cast<size_t>(context_length)]) {
  if (spec_.position == PositionKind::kRope) {
    frequencies_ = RopeFrequencies(spec_);
    cosines_ = Floats(spec_.head_dim / 2);
    sines_ = Floats(spec_.head_dim / 2);
  } else if (spec_.position == PositionKind::kAlibi) {
    const std::vector<double> slopes = AlibiSlopes(spec_);
    std::copy(slopes.begin(), slopes.end(), slopes_.begin());
  }
}

absl::Status Engine::Impl::Check(absl::Span<const int32_t> tokens) const {
  if (tokens.empty()) return InvalidInputError("no tokens to append");
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= spec_.vocab_size) {
      return InvalidInputError("token ", i, ": expected an id from 0 to ",
                               spec_.vocab_size - 1, ", found ", tokens[i]);
    }
  }
  if (static_cast<int64_t>(tokens.size()) > context_length_ - position_) {
    return absl::OutOfRangeError(
        absl::StrCat("context full: ", position_, " tokens and ", tokens.size(),
                     " more do not fit context_length ", context_length_));
  }
  return absl::OkStatus();
}

template <typename Body>
void Engine::Impl::ForRows(const DeviceMatrix& w, int64_t rows,
                           const Body& body) {
  const int64_t row_bytes =
      w.cols * static_cast<int64_t>(DTypeBytes(w.view().dtype));
  const int64_t grain = BalancedGrain(rows, pool_->num_threads(),
                                      CeilDiv(kMinBytesPerRange, row_bytes));
  pool_->ParallelFor(
      rows, grain,
      [&](int64_t begin, int64_t end, int /*thread*/) { body(begin, end); });
}

void Engine::Impl::LinearRows(const DeviceLinear& linear, int64_t begin,
                              int64_t end, absl::Span<const float> x,
                              absl::Span<float> out) {
  const size_t first = static_cast<size_t>(begin);
  const size_t count = static_cast<size_t>(end - begin);
  const absl::Span<float> part = out.subspan(first, count);
  MatVec(linear.weight.view().Rows(begin, end - begin), x, part);
  if (linear.bias.empty()) return;
  internal_device::Add(absl::MakeConstSpan(linear.bias).subspan(first, count),
                       part);
}

void Engine::Impl::Linear(const DeviceLinear& linear, absl::Span<const float> x,
                          absl::Span<float> out) {
  ForRows(linear.weight, linear.weight.rows, [&](int64_t begin, int64_t end) {
    LinearRows(linear, begin, end, x, out);
  });
}

void Engine::Impl::Norm(const DeviceNorm& norm) {
  internal_device::Normalize(spec_.norm, spec_.norm_epsilon, norm,
                             hidden_.span(), normed_.span());
}

void Engine::Impl::Embed(int32_t token) {
  ReadRow(model_->token_embedding, token, hidden_.span());
  if (spec_.position == PositionKind::kLearned) {
    ReadRow(model_->position_embedding, position_, projected_.span());
    internal_device::Add(projected_.span(), hidden_.span());
  }
}

void Engine::Impl::SetRotation() {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const double angle = static_cast<double>(position_) * frequencies_[i];
    cosines_[i] = static_cast<float>(std::cos(angle));
    sines_[i] = static_cast<float>(std::sin(angle));
  }
}

void Engine::Impl::RunToken(int32_t token) {
  Embed(token);
  SetRotation();
  for (size_t i = 0; i < model_->blocks.size(); ++i) {
    RunBlock(model_->blocks[i], static_cast<int64_t>(i));
  }
  ++position_;
}

void Engine::Impl::RunBlock(const DeviceBlock& block, int64_t layer) {
  Norm(block.attention_norm);
  RunQkv(block);
  cache_.Store(layer, position_, k_.span(), v_.span());
  RunAttention(layer);
  Linear(block.o, attended_.span(), projected_.span());
  internal_device::Add(projected_.span(), hidden_.span());

  Norm(block.ffn_norm);
  RunFfn(block);
  Linear(block.down, up_.span(), projected_.span());
  internal_device::Add(projected_.span(), hidden_.span());
}

void Engine::Impl::RunQkv(const DeviceBlock& block) {
  MultiplyQkv(block);
  if (spec_.clip_qkv > 0) {
    const float limit = static_cast<float>(spec_.clip_qkv);
    internal_device::Clamp(limit, q_.span());
    internal_device::Clamp(limit, k_.span());
    internal_device::Clamp(limit, v_.span());
  }
  if (spec_.qk_norm) {
    internal_device::NormalizeHeads(spec_.norm_epsilon, block.q_norm,
                                    q_.span());
    internal_device::NormalizeHeads(spec_.norm_epsilon, block.k_norm,
                                    k_.span());
  }
  if (spec_.position == PositionKind::kRope) {
    internal_device::Rotate(cosines_.span(), sines_.span(), q_.span());
    internal_device::Rotate(cosines_.span(), sines_.span(), k_.span());
  }
}

// The rows of q, k and v as if they were one matrix: one start of the threads
// instead of three.
void Engine::Impl::MultiplyQkv(const DeviceBlock& block) {
  const std::pair<const DeviceLinear*, absl::Span<float>> parts[] = {
      {&block.q, q_.span()}, {&block.k, k_.span()}, {&block.v, v_.span()}};
  const int64_t rows = spec_.q_size() + 2 * spec_.kv_size();
  ForRows(block.q.weight, rows, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // of the part, among all rows
    for (const auto& [linear, out] : parts) {
      const int64_t part_rows = linear->weight.rows;
      const int64_t from = std::clamp<int64_t>(begin - first, 0, part_rows);
      const int64_t to = std::clamp<int64_t>(end - first, 0, part_rows);
      if (from < to) LinearRows(*linear, from, to, normed_.span(), out);
      first += part_rows;
    }
  });
}

void Engine::Impl::RunAttention(int64_t layer) {
  // Bytes of keys and values that one head reads.
  const int64_t head_bytes = (position_ + 1) * spec_.head_dim * 8;
  const int64_t grain = BalancedGrain(spec_.num_heads, pool_->num_threads(),
                                      CeilDiv(kMinBytesPerRange, head_bytes));
  pool_->ParallelFor(spec_.num_heads, grain,
                     [&](int64_t begin, int64_t end, int thread) {
                       float* scores = scores_.get() + thread * context_length_;
                       for (int64_t head = begin; head < end; ++head) {
                         RunHead(layer, head, scores);
                       }
                     });
}

void Engine::Impl::RunHead(int64_t layer, int64_t head, float* scores) {
  const int64_t kv_head = head / (spec_.num_heads / spec_.num_kv_heads);
  const int64_t end = position_ + 1;
  const int64_t begin = spec_.sliding_window > 0
                            ? std::max<int64_t>(0, end - spec_.sliding_window)
                            : 0;
  const size_t head_dim = static_cast<size_t>(spec_.head_dim);
  const size_t first = static_cast<size_t>(head) * head_dim;
  const absl::Span<float> weights(scores, static_cast<size_t>(end - begin));
  MatVec(cache_.Keys(layer, kv_head, begin, end),
         q_.span().subspan(first, head_dim), weights);
  internal_device::ScaledSoftmax(static_cast<float>(spec_.attention_scale),
                                 slopes_[static_cast<size_t>(head)], weights);
  MatVec(cache_.Values(layer, kv_head, begin, end), weights,
         attended_.span().subspan(first, head_dim));
}

// up_ = act(Gate x) * (Up x), or act(Up x).
void Engine::Impl::RunFfn(const DeviceBlock& block) {
  ForRows(block.up.weight, spec_.ffn_size, [&](int64_t begin, int64_t end) {
    const size_t first = static_cast<size_t>(begin);
    const size_t count = static_cast<size_t>(end - begin);
    const absl::Span<float> up = up_.span().subspan(first, count);
    LinearRows(block.up, begin, end, normed_.span(), up_.span());
    if (!spec_.gated_ffn) {
      return internal_device::Activate(spec_.activation, up);
    }
    const absl::Span<float> gate = gate_.span().subspan(first, count);
    LinearRows(block.gate, begin, end, normed_.span(), gate_.span());
    internal_device::Activate(spec_.activation, gate);
    internal_device::Multiply(gate, up);
  });
}

absl::Span<const float> Engine::Impl::Logits() {
  Norm(model_->final_norm);
  const DeviceMatrix& head =
      spec_.tied_lm_head ? model_->token_embedding : model_->lm_head.weight;
  ForRows(head, spec_.vocab_size, [&](int64_t begin, int64_t end) {
    const size_t first = static_cast<size_t>(begin);
    MatVec(head.view().Rows(begin, end - begin), normed_.span(),
           logits_.span().subspan(first, static_cast<size_t>(end - begin)));
  });
  return logits_.span();
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::shared_ptr<const DeviceModel> model, ThreadPool* pool,
    const EngineOptions& options) {
  QEFF_CHECK(model != nullptr && pool != nullptr);
  QEFF_RETURN_IF_ERROR(ValidateModel(*model));
  QEFF_RETURN_IF_ERROR(CheckContextLength(model->spec, options.context_length));
  const CheckedU64 bytes = KvCache::Bytes(model->spec, options.context_length);
  if (!bytes.AtMost(static_cast<uint64_t>(INT64_MAX))) {
    return absl::ResourceExhaustedError(
        absl::StrCat("context_length ", options.context_length,
                     ": the cache exceeds the address space"));
  }
  try {
    return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(
        std::move(model), pool, options.context_length)));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "context_length ", options.context_length, ": no memory for ",
        bytes.value(), " bytes of keys and values"));
  }
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::StatusOr<absl::Span<const float>> Engine::Append(
    absl::Span<const int32_t> tokens) {
  QEFF_RETURN_IF_ERROR(impl_->Check(tokens));
  for (int32_t token : tokens) impl_->RunToken(token);
  return impl_->Logits();
}

void Engine::Reset() { impl_->Reset(); }
int64_t Engine::position() const { return impl_->position(); }
int64_t Engine::context_length() const { return impl_->context_length(); }
const DeviceModel& Engine::model() const { return impl_->model(); }

}  // namespace qeff
