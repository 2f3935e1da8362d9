// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/text_generate.h"

#include <algorithm>

namespace qeff {

TextRequests::TextRequests(absl::Span<const std::vector<int32_t>> prompts,
                           const TextGenerateOptions& options,
                           const PortableTokenizer& tokenizer,
                           const TextCallbacks& callbacks,
                           int64_t model_vocab_size)
    : requests_(prompts.size()) {
  decoders_.reserve(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    decoders_.emplace_back(&tokenizer, /*skip_special_tokens=*/true);
    StreamDecoder* const decoder = &decoders_.back();
    BatchRequest& request = requests_[i];
    request.prompt = prompts[i];
    request.options = options.generate;
    request.sampling = options.sampling;
    // Rows of the embedding beyond the tokenizer's tokens are padding.
    request.vocab_size =
        std::min<int64_t>(tokenizer.vocab_size(), model_vocab_size);
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
}

std::vector<absl::StatusOr<GenerateResult>> GenerateTexts(
    absl::Span<const std::vector<int32_t>> prompts,
    const TextGenerateOptions& options, const PortableTokenizer& tokenizer,
    const TextCallbacks& callbacks, Engine* engine) {
  const TextRequests requests(prompts, options, tokenizer, callbacks,
                              engine->model().spec.vocab_size);
  return GenerateBatch(requests.requests(), engine);
}

}  // namespace qeff
