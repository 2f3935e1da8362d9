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

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/device/engine.h"
#include "qeff/device/generation.h"
#include "qeff/device/sampler.h"

namespace qeff {

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
