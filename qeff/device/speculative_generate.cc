// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/speculative_generate.h"

#include <algorithm>
#include <utility>

#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Of the logits, those that the sampler chooses among.
absl::Span<const float> Among(const Sampler& sampler, const float* logits) {
  return absl::MakeConstSpan(logits, static_cast<size_t>(sampler.vocab_size()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SpeculativeGenerator>>
SpeculativeGenerator::Create(Engine* engine, Engine* draft,
                             int64_t draft_tokens) {
  QEFF_CHECK(engine != draft);
  if (draft_tokens < 1 || draft_tokens > kMaxDraftTokens) {
    return InvalidInputError("draft_tokens: expected 1 to ", kMaxDraftTokens,
                             ", found ", draft_tokens);
  }
  const int64_t chunk = engine->options().prefill_chunk;
  if (draft_tokens >= chunk) {
    return InvalidInputError("draft_tokens: expected fewer than prefill_chunk ",
                             chunk, ", so that one pass verifies all, found ",
                             draft_tokens);
  }
  if (draft->context_length() < engine->context_length()) {
    return InvalidInputError(
        "draft: context_length: expected at least ", engine->context_length(),
        " as the model has, found ", draft->context_length());
  }
  return std::unique_ptr<SpeculativeGenerator>(
      new SpeculativeGenerator(engine, draft, draft_tokens));
}

SpeculativeGenerator::SpeculativeGenerator(Engine* engine, Engine* draft,
                                           int64_t draft_tokens)
    : engine_(engine),
      draft_(draft),
      proposals_(static_cast<size_t>(draft_tokens)) {
  const size_t vocab_size =
      static_cast<size_t>(engine->model().spec.vocab_size);
  for (Proposal& proposal : proposals_) {
    proposal.distribution.reserve(vocab_size);
  }
  pass_tokens_.reserve(proposals_.size() + 1);
}

absl::StatusOr<GenerateResult> SpeculativeGenerator::Generate(
    const BatchRequest& request) {
  absl::StatusOr<GenerateResult> result = Run(request);
  if (request.on_done) request.on_done(result);
  return result;
}

std::vector<absl::StatusOr<GenerateResult>> SpeculativeGenerator::GenerateEach(
    absl::Span<const BatchRequest> requests) {
  std::vector<absl::StatusOr<GenerateResult>> results;
  results.reserve(requests.size());
  for (const BatchRequest& request : requests) {
    results.push_back(Generate(request));
  }
  return results;
}

absl::StatusOr<GenerateResult> SpeculativeGenerator::Run(
    const BatchRequest& request) {
  QEFF_ASSIGN_OR_RETURN(Sampler sampler,
                        internal_device::BeginRequest(request, 0, engine_));
  const int64_t draft_vocab_size = draft_->model().spec.vocab_size;
  if (draft_vocab_size < sampler.vocab_size()) {
    return InvalidInputError("draft: vocab_size: expected at least ",
                             sampler.vocab_size(), ", found ",
                             draft_vocab_size);
  }
  draft_->Reset(0);
  internal_device::Generation generation(request.prompt, request.options,
                                         request.callbacks, &sampler);
  Sequence sequence{request.prompt, &sampler, &generation, {}};
  QEFF_ASSIGN_OR_RETURN(bool finished, RunPrompt(sequence));
  while (!finished) {
    QEFF_ASSIGN_OR_RETURN(finished, RunPass(&sequence));
  }
  QEFF_ASSIGN_OR_RETURN(GenerateResult result, generation.Finish());
  result.speculation = sequence.speculation;
  return result;
}

absl::StatusOr<bool> SpeculativeGenerator::RunPrompt(const Sequence& sequence) {
  QEFF_ASSIGN_OR_RETURN(const absl::Span<const float> logits,
                        engine_->Append(sequence.prompt));
  sequence.generation->Ran(sequence.prompt.size());
  return sequence.generation->TakeLogits(
      logits, engine_->position() == engine_->context_length());
}

absl::StatusOr<bool> SpeculativeGenerator::RunPass(Sequence* sequence) {
  // One token follows the proposals, and all of them are run but that one.
  const int64_t count =
      std::min({static_cast<int64_t>(proposals_.size()),
                sequence->generation->tokens_left() - 1,
                engine_->context_length() - engine_->position() - 1});
  QEFF_RETURN_IF_ERROR(Propose(count, *sequence), "draft");
  absl::StatusOr<bool> finished = false;
  QEFF_RETURN_IF_ERROR(engine_->Score(
      {0, pass_tokens_}, [&](int64_t first, MatrixView<const float> logits) {
        QEFF_CHECK(first == 0 && logits.rows() == count + 1);
        finished = TakePass(logits, sequence);
      }));
  // What was run is kept as far as it became text; the last token was not run.
  const int64_t position =
      static_cast<int64_t>(sequence->prompt.size() +
                           sequence->generation->tokens().size()) -
      1;
  engine_->Truncate(0, position);
  draft_->Truncate(0, std::min(draft_->position(), position));
  return finished;
}

absl::Status SpeculativeGenerator::Propose(int64_t count,
                                           const Sequence& sequence) {
  Sampler* const sampler = sequence.sampler;
  pass_tokens_.assign(1, sequence.generation->tokens().back());
  for (int64_t i = 0; i < count; ++i) {
    const absl::Span<const int32_t> proposed =
        absl::MakeConstSpan(pass_tokens_).subspan(1);
    QEFF_ASSIGN_OR_RETURN(const absl::Span<const float> logits,
                          DraftLogits(sequence, proposed));
    Proposal* const proposal = &proposals_[static_cast<size_t>(i)];
    QEFF_RETURN_IF_ERROR(
        sampler->Propose(Among(*sampler, logits.data()), proposal));
    pass_tokens_.push_back(proposal->token);
    sampler->Accept({proposal->token});
  }
  sampler->Withdraw(absl::MakeConstSpan(pass_tokens_).subspan(1));
  return absl::OkStatus();
}

absl::StatusOr<absl::Span<const float>> SpeculativeGenerator::DraftLogits(
    const Sequence& sequence, absl::Span<const int32_t> proposed) {
  absl::StatusOr<absl::Span<const float>> logits;
  size_t begin = 0;  // where a part of the sequence begins
  for (const absl::Span<const int32_t> part :
       {sequence.prompt, sequence.generation->tokens(), proposed}) {
    const size_t position = static_cast<size_t>(draft_->position());
    const size_t done = std::min(position - begin, part.size());
    if (done < part.size()) {
      QEFF_ASSIGN_OR_RETURN(logits, draft_->Append(part.subspan(done)));
    }
    begin += part.size();
  }
  return logits;
}

absl::StatusOr<bool> SpeculativeGenerator::TakePass(
    MatrixView<const float> logits, Sequence* sequence) {
  Sampler* const sampler = sequence->sampler;
  internal_device::Generation* const generation = sequence->generation;
  Speculation* const speculation = &sequence->speculation;
  const int64_t proposed = logits.rows() - 1;
  speculation->proposed += proposed;
  ++speculation->passes;
  for (int64_t row = 0; row <= proposed; ++row) {
    const absl::Span<const float> among = Among(*sampler, logits.row(row));
    const Proposal* const proposal =
        row < proposed ? &proposals_[static_cast<size_t>(row)] : nullptr;
    QEFF_ASSIGN_OR_RETURN(const int32_t token,
                          proposal == nullptr
                              ? sampler->Sample(among)
                              : sampler->Verify(*proposal, among));
    const bool agreed = proposal != nullptr && token == proposal->token;
    speculation->accepted += agreed ? 1 : 0;
    ++speculation->tokens;
    const bool context_full =
        static_cast<int64_t>(sequence->prompt.size() +
                             generation->tokens().size()) ==
        engine_->context_length();
    generation->Ran(1);
    QEFF_ASSIGN_OR_RETURN(const bool finished,
                          generation->TakeToken(token, context_full));
    if (finished || !agreed) return finished;
  }
  return false;
}

}  // namespace qeff
