// SPDX-License-Identifier: Apache-2.0
//
// The generation loop: prompt in, tokens and text out, with what it cost.
//
//   StreamDecoder decoder(tokenizer.get(), /*skip_special_tokens=*/true);
//   GenerateOptions options;
//   options.max_new_tokens = 100;
//   options.eos_token_ids = {2};
//   GenerateCallbacks callbacks;
//   callbacks.decode = [&](int32_t id) { return decoder.Append(id); };
//   callbacks.flush = [&] { return decoder.Flush(); };
//   callbacks.on_text = [](absl::string_view text) {
//     std::cout << text << std::flush;
//     return absl::OkStatus();
//   };
//   QEFF_ASSIGN_OR_RETURN(GenerateResult result,
//                         Generate(prompt, options, callbacks, engine.get(),
//                                  &sampler));
//   std::cout << FormatPerformance(result.timing);

#ifndef QEFF_DEVICE_GENERATE_H_
#define QEFF_DEVICE_GENERATE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/device/engine.h"
#include "qeff/device/performance.h"
#include "qeff/device/sampler.h"

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
};

// Appends `prompt` to the engine, then chooses tokens until one of
// FinishReason holds. The engine need not be empty (a conversation goes on);
// the last chosen token has not been appended to it. `sampler` accepts the
// prompt and every chosen token. One with a smaller vocabulary than the model
// chooses among the first ids only: an embedding may have more rows than the
// tokenizer has tokens.
// Errors: kInvalidArgument for an empty prompt, max_new_tokens below 1, an
// empty stop string or stop strings without decode; those of Engine::Append,
// Sampler::Sample and of the callbacks. Text passed before an error stays
// passed.
absl::StatusOr<GenerateResult> Generate(absl::Span<const int32_t> prompt,
                                        const GenerateOptions& options,
                                        const GenerateCallbacks& callbacks,
                                        Engine* engine, Sampler* sampler);

}  // namespace qeff

#endif  // QEFF_DEVICE_GENERATE_H_
