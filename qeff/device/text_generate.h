// SPDX-License-Identifier: Apache-2.0
//
// Generation with a tokenizer: text comes out as it grows. What
// batch_generate.h does, with its callbacks filled in.
//
//   TextGenerateOptions options;
//   options.generate.max_new_tokens = 100;
//   options.generate.eos_token_ids = engine->model().spec.eos_token_ids;
//   const auto results =
//       GenerateTexts({prompt_tokens}, options, *tokenizer, {}, engine.get());
//   if (results[0].ok()) std::cout << results[0]->text;

#ifndef QEFF_DEVICE_TEXT_GENERATE_H_
#define QEFF_DEVICE_TEXT_GENERATE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/device/batch_generate.h"
#include "qeff/device/engine.h"
#include "qeff/device/generation.h"
#include "qeff/device/sampler.h"
#include "qeff/tokenizer/portable_tokenizer.h"

namespace qeff {

// The same for every prompt: each begins with the same seed.
struct TextGenerateOptions {
  GenerateOptions generate;
  SamplerOptions sampling;
};

// Any may be unset; `prompt` is an index. In the calling thread.
struct TextCallbacks {
  // As GenerateCallbacks::on_text.
  std::function<absl::Status(size_t prompt, absl::string_view text)> on_text;
  // Once a prompt, with what GenerateTexts will return for it.
  std::function<void(size_t prompt,
                     const absl::StatusOr<GenerateResult>& result)>
      on_done;
};

// What GenerateTexts asks of GenerateBatch. `prompts`, `options`, `tokenizer`
// and `callbacks` must outlive it.
class TextRequests {
 public:
  // Chooses among the tokens that both the tokenizer and `model_vocab_size`
  // logits have.
  TextRequests(absl::Span<const std::vector<int32_t>> prompts,
               const TextGenerateOptions& options,
               const PortableTokenizer& tokenizer,
               const TextCallbacks& callbacks, int64_t model_vocab_size);

  TextRequests(const TextRequests&) = delete;
  TextRequests& operator=(const TextRequests&) = delete;

  absl::Span<const BatchRequest> requests() const { return requests_; }

 private:
  std::vector<StreamDecoder> decoders_;  // of the requests' callbacks
  std::vector<BatchRequest> requests_;
};

// Continues every prompt, which are token ids, as GenerateBatch does, and
// decodes without special tokens. Chooses among the tokens that both tokenizer
// and model have. Special tokens of a prompt are the caller's matter
// (PortableTokenizer::Encode). Errors: those of GenerateBatch.
std::vector<absl::StatusOr<GenerateResult>> GenerateTexts(
    absl::Span<const std::vector<int32_t>> prompts,
    const TextGenerateOptions& options, const PortableTokenizer& tokenizer,
    const TextCallbacks& callbacks, Engine* engine);

}  // namespace qeff

#endif  // QEFF_DEVICE_TEXT_GENERATE_H_
