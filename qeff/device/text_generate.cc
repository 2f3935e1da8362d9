// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/text_generate.h"

#include <algorithm>

#include "qeff/device/batch_generate.h"

namespace qeff {

std::vector<absl::StatusOr<GenerateResult>> GenerateTexts(
    absl::Span<const std::vector<int32_t>> prompts,
    const TextGenerateOptions& options, const PortableTokenizer& tokenizer,
    const TextCallbacks& callbacks, Engine* engine) {
  std::vector<StreamDecoder> decoders;
  decoders.reserve(prompts.size());
  std::vector<BatchRequest> requests(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    decoders.emplace_back(&tokenizer, /*skip_special_tokens=*/true);
    StreamDecoder* const decoder = &decoders.back();
    BatchRequest& request = requests[i];
    request.prompt = prompts[i];
    request.options = options.generate;
    request.sampling = options.sampling;
    // Rows of the embedding beyond the tokenizer's tokens are padding.
    request.vocab_size = std::min<int64_t>(tokenizer.vocab_size(),
                                           engine->model().spec.vocab_size);
    request.callbacks.decode = [decoder](int32_t token) {
      return decoder->Append(token);
    };
    request.callbacks.flush = [decoder] { return decoder->Flush(); };
    if (callbacks.on_text) {
      request.callbacks.on_text = [&callbacks, i](absl::string_view text) {
        return callbacks.on_text(i, text);
      };
    }
    if (callbacks.on_done) {
      request.on_done = [&callbacks,
                         i](const absl::StatusOr<GenerateResult>& result) {
        callbacks.on_done(i, result);
      };
    }
  }
  return GenerateBatch(requests, engine);
}

}  // namespace qeff
