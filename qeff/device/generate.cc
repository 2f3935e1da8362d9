// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/generate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "qeff/device/stop_matcher.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

double MonotonicSeconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

absl::Status CheckOptions(absl::Span<const int32_t> prompt,
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

// From tokens to text that is certain to stay.
class TextOutput {
 public:
  TextOutput(const std::vector<std::string>& stop_strings,
             const GenerateCallbacks& callbacks)
      : matcher_(stop_strings), callbacks_(callbacks) {}

  absl::Status Append(int32_t token) {
    if (!callbacks_.decode) return absl::OkStatus();
    QEFF_ASSIGN_OR_RETURN(const std::string piece, callbacks_.decode(token));
    return Emit(matcher_.Append(piece));
  }

  // The generation has ended: what the decoder and the matcher hold follows.
  absl::Status Finish() {
    if (!stopped() && callbacks_.decode && callbacks_.flush) {
      QEFF_RETURN_IF_ERROR(Emit(matcher_.Append(callbacks_.flush())));
    }
    return stopped() ? absl::OkStatus() : Emit(matcher_.Flush());
  }

  bool stopped() const { return matcher_.stopped(); }
  std::string TakeText() { return std::move(text_); }

 private:
  absl::Status Emit(const std::string& text) {
    if (text.empty()) return absl::OkStatus();
    text_ += text;
    return callbacks_.on_text ? callbacks_.on_text(text) : absl::OkStatus();
  }

  StopMatcher matcher_;
  const GenerateCallbacks& callbacks_;
  std::string text_;
};

// One call of Generate.
class Generation {
 public:
  Generation(const GenerateOptions& options, const GenerateCallbacks& callbacks,
             Engine* engine, Sampler* sampler)
      : options_(options),
        callbacks_(callbacks),
        engine_(engine),
        sampler_(sampler),
        output_(options.stop_strings, callbacks) {}

  absl::StatusOr<GenerateResult> Run(absl::Span<const int32_t> prompt) {
    result_.timing.start_seconds = Now();
    result_.timing.prompt_tokens = static_cast<int64_t>(prompt.size());
    QEFF_ASSIGN_OR_RETURN(absl::Span<const float> logits,
                          engine_->Append(prompt));
    sampler_->Accept(prompt);
    for (;;) {
      QEFF_ASSIGN_OR_RETURN(
          const int32_t token,
          sampler_->Sample(logits.subspan(0, sampler_->vocab_size())));
      QEFF_ASSIGN_OR_RETURN(const bool finished, TakeToken(token));
      if (finished) break;
      QEFF_ASSIGN_OR_RETURN(logits, engine_->Append({token}));
    }
    QEFF_RETURN_IF_ERROR(output_.Finish());
    if (output_.stopped()) result_.finish_reason = FinishReason::kStopString;
    result_.text = output_.TakeText();
    return std::move(result_);
  }

 private:
  double Now() const {
    return callbacks_.now_seconds ? callbacks_.now_seconds()
                                  : MonotonicSeconds();
  }

  bool IsEos(int32_t token) const {
    const std::vector<int64_t>& ids = options_.eos_token_ids;
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  }

  // Records a chosen token; true when it is the last one.
  absl::StatusOr<bool> TakeToken(int32_t token) {
    RecordTime();
    result_.tokens.push_back(token);
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
    if (engine_->position() == engine_->context_length()) {
      return FinishedBy(FinishReason::kContextFull);
    }
    return false;
  }

  bool FinishedBy(FinishReason reason) {
    result_.finish_reason = reason;
    return true;
  }

  void RecordTime() {
    GenerateTiming& timing = result_.timing;
    timing.end_seconds = Now();
    if (timing.generated_tokens == 0) {
      timing.first_token_seconds = timing.end_seconds;
    }
    ++timing.generated_tokens;
  }

  const GenerateOptions& options_;
  const GenerateCallbacks& callbacks_;
  Engine* const engine_;
  Sampler* const sampler_;
  TextOutput output_;
  GenerateResult result_;
};

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

absl::StatusOr<GenerateResult> Generate(absl::Span<const int32_t> prompt,
                                        const GenerateOptions& options,
                                        const GenerateCallbacks& callbacks,
                                        Engine* engine, Sampler* sampler) {
  QEFF_RETURN_IF_ERROR(CheckOptions(prompt, options, callbacks));
  return Generation(options, callbacks, engine, sampler).Run(prompt);
}

}  // namespace qeff
