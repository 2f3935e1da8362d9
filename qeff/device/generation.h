// SPDX-License-Identifier: Apache-2.0
//
// One sequence that is being generated, without the engine that runs it: what
// is asked for, what comes out, and the state between two tokens. generate.h
// runs one to its end, batch_generate.h several side by side,
// speculative_generate.h one with a draft model.

#ifndef QEFF_DEVICE_GENERATION_H_
#define QEFF_DEVICE_GENERATION_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/device/performance.h"
#include "qeff/device/sampler.h"
#include "qeff/device/stop_matcher.h"

namespace qeff {

struct GenerateOptions {
  int64_t max_new_tokens = 0;  // at least 1
  // Generation ends with any of these.
  std::vector<int64_t> eos_token_ids;
  // Generation ends when the text contains any of these; needs
  // GenerateCallbacks::decode. None may be empty.
  std::vector<std::string> stop_strings;
};

// Any of them may be unset. An error that one returns ends the generation and
// is returned as it is.
struct GenerateCallbacks {
  // Called with every token as it is chosen, the end-of-sequence token too.
  std::function<absl::Status(int32_t token)> on_token;

  // Token to text, as StreamDecoder's Append and Flush: what decode returns
  // may be empty and lag behind. Not called for the end-of-sequence token.
  // Without decode there is no text.
  std::function<absl::StatusOr<std::string>(int32_t token)> decode;
  std::function<std::string()> flush;

  // Called with text that is final: what could still become a stop string is
  // held back, and a stop string and all after it is never passed. Never
  // called with an empty text.
  std::function<absl::Status(absl::string_view text)> on_text;

  // Seconds from any origin; default: a monotonic clock.
  std::function<double()> now_seconds;
};

enum class FinishReason : uint8_t {
  kMaxNewTokens,
  kEndOfSequence,
  kStopString,
  kContextFull,
};

// "max_new_tokens", "end of sequence", "stop string", "context full".
absl::string_view FinishReasonName(FinishReason reason);

struct GenerateResult {
  // The chosen tokens, with the end-of-sequence token when that ended it.
  std::vector<int32_t> tokens;
  std::string text;  // all that on_text got or would have got
  FinishReason finish_reason = FinishReason::kMaxNewTokens;
  GenerateTiming timing;
  Speculation speculation;
};

namespace internal_device {

// From tokens to text that is certain to stay.
class TextOutput {
 public:
  TextOutput(const std::vector<std::string>& stop_strings,
             const GenerateCallbacks& callbacks)
      : matcher_(stop_strings), callbacks_(callbacks) {}

  absl::Status Append(int32_t token);

  // The generation has ended: what the decoder and the matcher hold follows.
  absl::Status Finish();

  bool stopped() const { return matcher_.stopped(); }
  std::string TakeText() { return std::move(text_); }

 private:
  absl::Status Emit(const std::string& text);

  StopMatcher matcher_;
  const GenerateCallbacks& callbacks_;
  std::string text_;
};

// Its user runs pending() on an engine, tells with Ran what it has run, and
// when nothing is pending passes the logits to TakeLogits, until that says that
// the last token was chosen; then Finish gives the result. After an error
// nothing more may be called. Not thread-safe.
class Generation {
 public:
  // Errors: kInvalidArgument for an empty prompt, max_new_tokens below 1, an
  // empty stop string or stop strings without decode.
  static absl::Status Check(absl::Span<const int32_t> prompt,
                            const GenerateOptions& options,
                            const GenerateCallbacks& callbacks);

  // The clock of the result starts. All must outlive it. Precondition: Check.
  Generation(absl::Span<const int32_t> prompt, const GenerateOptions& options,
             const GenerateCallbacks& callbacks, Sampler* sampler);

  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // What is left of the prompt; after that the token that was chosen last.
  // Valid until the next call that is not const.
  absl::Span<const int32_t> pending() const { return pending_; }

  // Whether the first token is still to be chosen.
  bool in_prompt() const { return result_.tokens.empty(); }

  // The first `count` of pending() were run.
  void Ran(size_t count) { pending_.remove_prefix(count); }

  // The tokens that were chosen, and how many more may be. Valid until the next
  // call that is not const.
  absl::Span<const int32_t> tokens() const { return result_.tokens; }
  int64_t tokens_left() const {
    return options_.max_new_tokens - result_.timing.generated_tokens;
  }

  // Chooses a token from the logits after all that was run; true when it is the
  // last one. `context_full` says that it could not be run. Precondition:
  // nothing is pending. Errors: those of Sampler::Sample and of the callbacks.
  absl::StatusOr<bool> TakeLogits(absl::Span<const float> logits,
                                  bool context_full);

  // The same with a token that was chosen elsewhere. Preconditions: nothing is
  // pending, and it is not the first one.
  absl::StatusOr<bool> TakeToken(int32_t token, bool context_full);

  // Passes on the text that was held back. Errors: those of the callbacks.
  absl::StatusOr<GenerateResult> Finish();

 private:
  double Now() const;
  bool IsEos(int32_t token) const;
  bool FinishedBy(FinishReason reason);
  void RecordTime();

  const absl::Span<const int32_t> prompt_;
  const GenerateOptions& options_;
  const GenerateCallbacks& callbacks_;
  Sampler* const sampler_;
  TextOutput output_;
  absl::Span<const int32_t> pending_;
  GenerateResult result_;
};

}  // namespace internal_device
}  // namespace qeff

#endif  // QEFF_DEVICE_GENERATION_H_
