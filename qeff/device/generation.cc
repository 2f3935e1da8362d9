// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/generation.h"

#include <algorithm>
#include <chrono>

#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

double MonotonicSeconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace

absl::string_view FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kMaxNewTokens:
      return "max_new_tokens";
    case FinishReason::kEndOfSequence:
      return "end of sequence";
    case FinishReason::kStopString:
      return "stop string";
    case FinishReason::kContextFull:
      return "context full";
  }
  return "unknown";
}

namespace internal_device {

absl::Status TextOutput::Append(int32_t token) {
  if (!callbacks_.decode) return absl::OkStatus();
  QEFF_ASSIGN_OR_RETURN(const std::string piece, callbacks_.decode(token));
  return Emit(matcher_.Append(piece));
}

absl::Status TextOutput::Finish() {
  if (!stopped() && callbacks_.decode && callbacks_.flush) {
    QEFF_RETURN_IF_ERROR(Emit(matcher_.Append(callbacks_.flush())));
  }
  return stopped() ? absl::OkStatus() : Emit(matcher_.Flush());
}

absl::Status TextOutput::Emit(const std::string& text) {
  if (text.empty()) return absl::OkStatus();
  text_ += text;
  return callbacks_.on_text ? callbacks_.on_text(text) : absl::OkStatus();
}

absl::Status Generation::Check(absl::Span<const int32_t> prompt,
                               const GenerateOptions& options,
                               const GenerateCallbacks& callbacks) {
  if (prompt.empty()) return InvalidInputError("prompt: it has no tokens");
  if (options.max_new_tokens < 1) {
    return InvalidInputError("max_new_tokens: expected at least 1, found ",
                             options.max_new_tokens);
  }
  for (const std::string& stop : options.stop_strings) {
    if (stop.empty()) return InvalidInputError("stop: the string is empty");
  }
  if (!options.stop_strings.empty() && !callbacks.decode) {
    return InvalidInputError("stop strings need a function that decodes");
  }
  return absl::OkStatus();
}

Generation::Generation(absl::Span<const int32_t> prompt,
                       const GenerateOptions& options,
                       const GenerateCallbacks& callbacks, Sampler* sampler)
    : prompt_(prompt),
      options_(options),
      callbacks_(callbacks),
      sampler_(sampler),
      output_(options.stop_strings, callbacks),
      pending_(prompt) {
  result_.timing.start_seconds = Now();
  result_.timing.prompt_tokens = static_cast<int64_t>(prompt.size());
}

absl::StatusOr<bool> Generation::TakeLogits(absl::Span<const float> logits,
                                            bool context_full) {
  QEFF_CHECK(pending_.empty());
  if (in_prompt()) sampler_->Accept(prompt_);
  QEFF_ASSIGN_OR_RETURN(const int32_t token, sampler_->Sample(logits.subspan(
                                                 0, sampler_->vocab_size())));
  return TakeToken(token, context_full);
}

absl::StatusOr<GenerateResult> Generation::Finish() {
  QEFF_RETURN_IF_ERROR(output_.Finish());
  if (output_.stopped()) result_.finish_reason = FinishReason::kStopString;
  result_.text = output_.TakeText();
  return std::move(result_);
}

double Generation::Now() const {
  return callbacks_.now_seconds ? callbacks_.now_seconds() : MonotonicSeconds();
}

bool Generation::IsEos(int32_t token) const {
  const std::vector<int64_t>& ids = options_.eos_token_ids;
  return std::find(ids.begin(), ids.end(), token) != ids.end();
}

absl::StatusOr<bool> Generation::TakeToken(int32_t token, bool context_full) {
  RecordTime();
  result_.tokens.push_back(token);
  pending_ = absl::MakeConstSpan(&result_.tokens.back(), 1);
  sampler_->Accept({token});
  if (callbacks_.on_token) {
    QEFF_RETURN_IF_ERROR(callbacks_.on_token(token));
  }
  if (IsEos(token)) return FinishedBy(FinishReason::kEndOfSequence);
  QEFF_RETURN_IF_ERROR(output_.Append(token));
  if (output_.stopped()) return FinishedBy(FinishReason::kStopString);
  if (result_.timing.generated_tokens == options_.max_new_tokens) {
    return FinishedBy(FinishReason::kMaxNewTokens);
  }
  if (context_full) return FinishedBy(FinishReason::kContextFull);
  return false;
}

bool Generation::FinishedBy(FinishReason reason) {
  result_.finish_reason = reason;
  return true;
}

void Generation::RecordTime() {
  GenerateTiming& timing = result_.timing;
  timing.end_seconds = Now();
  if (timing.generated_tokens == 0) {
    timing.first_token_seconds = timing.end_seconds;
  }
  ++timing.generated_tokens;
}

}  // namespace internal_device
}  // namespace qeff
