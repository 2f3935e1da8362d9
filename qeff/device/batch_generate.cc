// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/batch_generate.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "qeff/util/status.h"

namespace qeff {
namespace {

using internal_device::Generation;

// A request that has a slot.
struct Sequence {
  Sequence(size_t index, int64_t slot, const BatchRequest& request,
           Sampler made_sampler)
      : index(index),
        slot(slot),
        sampler(std::move(made_sampler)),
        generation(request.prompt, request.options, request.callbacks,
                   &sampler) {}

  const size_t index;  // of the request
  const int64_t slot;
  Sampler sampler;
  Generation generation;
};

// One call of GenerateBatch.
class Batch {
 public:
  Batch(absl::Span<const BatchRequest> requests, Engine* engine)
      : requests_(requests), engine_(engine), results_(requests.size()) {
    engine_->Reset();
    for (int64_t slot = engine_->options().batch_size - 1; slot >= 0; --slot) {
      free_slots_.push_back(slot);
    }
  }

  std::vector<absl::StatusOr<GenerateResult>> Run() {
    for (;;) {
      FillSlots();
      if (running_.empty()) return std::move(results_);
      PlanStep();
      RunStep();
      running_.erase(std::remove(running_.begin(), running_.end(), nullptr),
                     running_.end());
    }
  }

 private:
  using Running = std::vector<std::unique_ptr<Sequence>>;

  void FillSlots() {
    while (next_ < requests_.size() && !free_slots_.empty()) {
      const size_t index = next_++;
      absl::StatusOr<std::unique_ptr<Sequence>> sequence =
          Start(index, free_slots_.back());
      if (sequence.ok()) {
        free_slots_.pop_back();
        running_.push_back(*std::move(sequence));
      } else {
        SetResult(index, sequence.status());
      }
    }
  }

  // Finds now what the engine would refuse later, with all of a step.
  absl::StatusOr<std::unique_ptr<Sequence>> Start(size_t index, int64_t slot) {
    QEFF_ASSIGN_OR_RETURN(
        Sampler sampler,
        internal_device::BeginRequest(requests_[index], slot, engine_));
    return std::make_unique<Sequence>(index, slot, requests_[index],
                                      std::move(sampler));
  }

  // Of a step: the tokens of a sequence, an index into running_.
  void PlanStep() {
    inputs_.clear();
    input_of_.clear();
    int64_t room = engine_->options().prefill_chunk;
    for (const auto& sequence : running_) {
      if (!sequence->generation.in_prompt()) --room;
    }
    for (size_t i = 0; i < running_.size(); ++i) {
      const Generation& generation = running_[i]->generation;
      absl::Span<const int32_t> tokens = generation.pending();
      const bool in_prompt = generation.in_prompt();
      if (in_prompt) {
        tokens =
            tokens.subspan(0, static_cast<size_t>(std::max<int64_t>(room, 0)));
        room -= static_cast<int64_t>(tokens.size());
      }
      if (tokens.empty()) continue;
      inputs_.push_back({running_[i]->slot, tokens,
                         tokens.size() == generation.pending().size()});
      input_of_.push_back(i);
    }
  }

  void RunStep() {
    const absl::StatusOr<MatrixView<const float>> logits =
        engine_->Run(inputs_);
    int64_t row = 0;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      std::unique_ptr<Sequence>* const sequence = &running_[input_of_[i]];
      if (!logits.ok()) {
        End(logits.status(), sequence);
        continue;
      }
      (*sequence)->generation.Ran(inputs_[i].tokens.size());
      if (!inputs_[i].wants_logits) continue;
      TakeLogits(absl::MakeConstSpan(logits->row(row++),
                                     static_cast<size_t>(logits->cols())),
                 sequence);
    }
  }

  void TakeLogits(absl::Span<const float> logits,
                  std::unique_ptr<Sequence>* sequence) {
    Generation& generation = (*sequence)->generation;
    const absl::StatusOr<bool> finished =
        generation.TakeLogits(logits, engine_->position((*sequence)->slot) ==
                                          engine_->context_length());
    if (!finished.ok()) {
      End(finished.status(), sequence);
    } else if (*finished) {
      End(generation.Finish(), sequence);
    }
  }

  // Its slot is free, and the sequence null.
  void End(absl::StatusOr<GenerateResult> result,
           std::unique_ptr<Sequence>* sequence) {
    free_slots_.push_back((*sequence)->slot);
    const size_t index = (*sequence)->index;
    sequence->reset();
    SetResult(index, std::move(result));
  }

  void SetResult(size_t index, absl::StatusOr<GenerateResult> result) {
    results_[index] = std::move(result);
    if (requests_[index].on_done) requests_[index].on_done(results_[index]);
  }

  const absl::Span<const BatchRequest> requests_;
  Engine* const engine_;
  std::vector<absl::StatusOr<GenerateResult>> results_;
  size_t next_ = 0;  // the first request that has not had a slot
  std::vector<int64_t> free_slots_;
  Running running_;  // in the order of their start
  std::vector<SlotTokens> inputs_;
  std::vector<size_t> input_of_;  // [inputs_]: which of running_
};

}  // namespace

std::vector<absl::StatusOr<GenerateResult>> GenerateBatch(
    absl::Span<const BatchRequest> requests, Engine* engine) {
  return Batch(requests, engine).Run();
}

namespace internal_device {

absl::StatusOr<Sampler> BeginRequest(const BatchRequest& request, int64_t slot,
                                     Engine* engine) {
  QEFF_RETURN_IF_ERROR(
      Generation::Check(request.prompt, request.options, request.callbacks));
  engine->Reset(slot);
  QEFF_RETURN_IF_ERROR(engine->Check({SlotTokens{slot, request.prompt}}));
  const int64_t logits = engine->model().spec.vocab_size;
  if (request.vocab_size < 0 || request.vocab_size > logits) {
    return InvalidInputError("vocab_size: expected 0 to ", logits, ", found ",
                             request.vocab_size);
  }
  return Sampler::Create(request.sampling,
                         request.vocab_size == 0 ? logits : request.vocab_size);
}

}  // namespace internal_device

}  // namespace qeff
