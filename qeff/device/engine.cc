// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/engine.h"

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/device/chunk_forward.h"
#include "qeff/device/kv_cache.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using internal_device::ChunkForward;
using internal_device::ChunkToken;

absl::Status CheckOption(absl::string_view name, int64_t value, int64_t limit) {
  if (value >= 1 && value <= limit) return absl::OkStatus();
  return InvalidInputError(name, ": expected 1 to ", limit, ", found ", value);
}

absl::Status CheckOptions(const TransformerSpec& spec,
                          const EngineOptions& options) {
  int64_t limit = kMaxContextLength;
  if (spec.position == PositionKind::kLearned) {
    limit = std::min(limit, spec.max_positions);
  }
  QEFF_RETURN_IF_ERROR(
      CheckOption("context_length", options.context_length, limit));
  QEFF_RETURN_IF_ERROR(
      CheckOption("batch_size", options.batch_size, kMaxBatchSize));
  return CheckOption("prefill_chunk", options.prefill_chunk, kMaxPrefillChunk);
}

}  // namespace

class Engine::Impl {
 public:
  Impl(std::shared_ptr<const DeviceModel> model, ThreadPool* pool,
       const EngineOptions& options, std::unique_ptr<KvCache> cache)
      : model_(std::move(model)),
        options_(options),
        cache_(std::move(cache)),
        forward_(*model_, options_, cache_.get(), pool),
        positions_(static_cast<size_t>(options.batch_size), 0),
        last_hidden_(options.batch_size, model_->spec.hidden_size) {
    chunk_.reserve(static_cast<size_t>(options.prefill_chunk));
    ends_.reserve(static_cast<size_t>(options.batch_size));
  }

  absl::Status Check(absl::Span<const SlotTokens> inputs) const;

  // Preconditions of both: Check is OK.
  MatrixView<const float> Run(absl::Span<const SlotTokens> inputs);
  void Score(const SlotTokens& input,
             absl::FunctionRef<void(int64_t, MatrixView<const float>)> sink);

  void Truncate(int64_t slot, int64_t position) {
    QEFF_CHECK(position >= 0 && position <= positions_[CheckedSlot(slot)]);
    positions_[static_cast<size_t>(slot)] = position;
  }
  void Reset() { std::fill(positions_.begin(), positions_.end(), 0); }
  int64_t position(int64_t slot) const { return positions_[CheckedSlot(slot)]; }
  const EngineOptions& options() const { return options_; }
  const DeviceModel& model() const { return *model_; }
  const OpTimes& times() const { return forward_.times(); }

 private:
  absl::Status CheckInput(const SlotTokens& input) const;
  size_t CheckedSlot(int64_t slot) const {
    QEFF_CHECK(slot >= 0 && slot < options_.batch_size);
    return static_cast<size_t>(slot);
  }

  // Appends a token to its slot and to the chunk.
  void AddToChunk(int64_t slot, int32_t id) {
    chunk_.push_back({id, slot, positions_[static_cast<size_t>(slot)]++});
  }
  bool ChunkIsFull() const {
    return static_cast<int64_t>(chunk_.size()) == options_.prefill_chunk;
  }
  // Runs the chunk, keeps the hidden states that Run wants and begins a new
  // chunk. Returns all hidden states.
  MatrixView<const float> RunChunk();

  // Row `row` of the chunk gives row `wanted` of the logits of Run.
  struct InputEnd {
    int64_t row;
    int64_t wanted;
  };

  const std::shared_ptr<const DeviceModel> model_;
  const EngineOptions options_;
  const std::unique_ptr<KvCache> cache_;
  ChunkForward forward_;
  std::vector<int64_t> positions_;  // [slots]
  std::vector<ChunkToken> chunk_;
  std::vector<InputEnd> ends_;  // in the chunk
  Matrix<float> last_hidden_;   // of the tokens whose logits Run returns
};

absl::Status Engine::Impl::CheckInput(const SlotTokens& input) const {
  if (input.slot < 0 || input.slot >= options_.batch_size) {
    return InvalidInputError("slot: expected 0 to ", options_.batch_size - 1,
                             ", found ", input.slot);
  }
  if (input.tokens.empty()) return InvalidInputError("no tokens to append");
  for (size_t i = 0; i < input.tokens.size(); ++i) {
    if (input.tokens[i] < 0 || input.tokens[i] >= model_->spec.vocab_size) {
      return InvalidInputError("token ", i, ": expected an id from 0 to ",
                               model_->spec.vocab_size - 1, ", found ",
                               input.tokens[i]);
    }
  }
  const int64_t position = positions_[static_cast<size_t>(input.slot)];
  if (static_cast<int64_t>(input.tokens.size()) >
      options_.context_length - position) {
    return absl::OutOfRangeError(absl::StrCat(
        "context full: ", position, " tokens and ", input.tokens.size(),
        " more do not fit context_length ", options_.context_length));
  }
  return absl::OkStatus();
}

absl::Status Engine::Impl::Check(absl::Span<const SlotTokens> inputs) const {
  if (inputs.empty()) return InvalidInputError("no tokens to append");
  for (size_t i = 0; i < inputs.size(); ++i) {
    QEFF_RETURN_IF_ERROR(CheckInput(inputs[i]));
    for (size_t j = 0; j < i; ++j) {
      if (inputs[i].slot == inputs[j].slot) {
        return InvalidInputError("slot ", inputs[i].slot, " is named twice");
      }
    }
  }
  return absl::OkStatus();
}

MatrixView<const float> Engine::Impl::Run(absl::Span<const SlotTokens> inputs) {
  int64_t wanted = 0;
  for (const SlotTokens& input : inputs) {
    for (size_t t = 0; t < input.tokens.size(); ++t) {
      AddToChunk(input.slot, input.tokens[t]);
      if (t + 1 == input.tokens.size() && input.wants_logits) {
        ends_.push_back({static_cast<int64_t>(chunk_.size()) - 1, wanted++});
      }
      if (ChunkIsFull()) RunChunk();
    }
  }
  if (!chunk_.empty()) RunChunk();
  if (wanted == 0) return {nullptr, 0, model_->spec.vocab_size};
  return forward_.Logits(MatrixView<const float>(last_hidden_.data(), wanted,
                                                 last_hidden_.cols()));
}

MatrixView<const float> Engine::Impl::RunChunk() {
  const MatrixView<const float> hidden = forward_.Run(chunk_);
  for (const InputEnd& end : ends_) {
    std::copy_n(hidden.row(end.row), hidden.cols(),
                last_hidden_.row(end.wanted));
  }
  chunk_.clear();
  ends_.clear();
  return hidden;
}

void Engine::Impl::Score(
    const SlotTokens& input,
    absl::FunctionRef<void(int64_t, MatrixView<const float>)> sink) {
  const int64_t max_rows = ChunkForward::MaxLogitRows(options_);
  int64_t first = 0;
  for (size_t t = 0; t < input.tokens.size(); ++t) {
    AddToChunk(input.slot, input.tokens[t]);
    if (!ChunkIsFull() && t + 1 < input.tokens.size()) continue;
    const MatrixView<const float> hidden = RunChunk();
    for (int64_t row = 0; row < hidden.rows(); row += max_rows) {
      const int64_t count = std::min(max_rows, hidden.rows() - row);
      sink(first + row, forward_.Logits(hidden.Rows(row, count)));
    }
    first += hidden.rows();
  }
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::shared_ptr<const DeviceModel> model, ThreadPool* pool,
    const EngineOptions& options) {
  QEFF_CHECK(model != nullptr && pool != nullptr);
  QEFF_RETURN_IF_ERROR(ValidateModel(*model));
  QEFF_RETURN_IF_ERROR(CheckOptions(model->spec, options));
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<KvCache> cache,
                        KvCache::Create(model->spec, options));
  try {
    return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(
        std::move(model), pool, options, std::move(cache))));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("prefill_chunk ", options.prefill_chunk,
                     ": no memory for activations"));
  }
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::StatusOr<MatrixView<const float>> Engine::Run(
    absl::Span<const SlotTokens> inputs) {
  QEFF_RETURN_IF_ERROR(impl_->Check(inputs));
  return impl_->Run(inputs);
}

absl::Status Engine::Check(absl::Span<const SlotTokens> inputs) const {
  return impl_->Check(inputs);
}

absl::StatusOr<absl::Span<const float>> Engine::Append(
    absl::Span<const int32_t> tokens) {
  QEFF_ASSIGN_OR_RETURN(const MatrixView<const float> logits,
                        Run({SlotTokens{0, tokens}}));
  return absl::MakeConstSpan(logits.row(0), static_cast<size_t>(logits.cols()));
}

absl::Status Engine::Score(
    const SlotTokens& input,
    absl::FunctionRef<void(int64_t, MatrixView<const float>)> sink) {
  QEFF_RETURN_IF_ERROR(impl_->Check({input}));
  impl_->Score(input, sink);
  return absl::OkStatus();
}

void Engine::Reset(int64_t slot) { impl_->Truncate(slot, 0); }
void Engine::Reset() { impl_->Reset(); }
void Engine::Truncate(int64_t slot, int64_t position) {
  impl_->Truncate(slot, position);
}
int64_t Engine::position(int64_t slot) const { return impl_->position(slot); }
const EngineOptions& Engine::options() const { return impl_->options(); }
const DeviceModel& Engine::model() const { return impl_->model(); }
const OpTimes& Engine::times() const { return impl_->times(); }

}  // namespace qeff
