// SPDX-License-Identifier: Apache-2.0
//
// Whether a model makes sense of a text. Weights can be wrong where every file
// is right: stored transposed, or in the order of rows of another family. What
// is made of such a model is lost work, and only running it shows it. For how
// good a model is use evaluate.h.
//
//   QEFF_ASSIGN_OR_RETURN(const ModelSanity sanity,
//                         MeasureSanity(model, sample.sequences, pool));
//   if (!sanity.sane()) ... FormatSanity(sanity, folder, text) ...

#ifndef QEFF_EVAL_MODEL_SANITY_H_
#define QEFF_EVAL_MODEL_SANITY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct ModelSanity {
  int64_t tokens = 0;      // that were scored
  double perplexity = 0;   // of these; infinite when logits are not finite
  int64_t vocab_size = 0;  // the perplexity of guessing among all tokens

  // The perplexity from which on a model is not sane: half of what guessing
  // has. With all matrices of the blocks or of the feed-forwards transposed, or
  // with their rows or those of the embedding in another order, four small
  // models were at .8 to 67,000 times what guessing has. As they should be they
  // are at .008 to .03 on text that they were made for; from .1 to 1 on other
  // text, on which nothing should be calibrated either. Where only attention is
  // wrong a model still knows which words are frequent and which follow one
  // another: .05 to 1, not always to be told from a weak model.
  double bound() const { return 0.5 * static_cast<double>(vocab_size); }

  // Fewer tokens than kLeastTokens say nothing.
  bool sane() const { return tokens < kLeastTokens || perplexity < bound(); }

  // The standard error of the mean loss is about 3 / sqrt(tokens) nats: .5 here
  // and .2 for as many as are measured at most.
  static constexpr int64_t kLeastTokens = 32;
};

// Scores the first 256 tokens of `sequences`, each from position 0, on the host
// forward in float32. Takes as long as 256 tokens of calibration, and memory
// for a block, 256 MiB of packed weights and, if it is larger, lm_head in
// slices. The same result for any `pool`. Errors: kInvalidArgument for tokens
// that `model` does not have; those of reading its weights.
absl::StatusOr<ModelSanity> MeasureSanity(
    std::shared_ptr<const Transformer> model,
    absl::Span<const std::vector<int32_t>> sequences, ThreadPool* pool);

// What is wrong with a model that is not sane, and why that may be. `model` and
// `text` are what the user calls them.
std::string FormatSanity(const ModelSanity& sanity, const std::string& model,
                         const std::string& text);

}  // namespace qeff

#endif  // QEFF_EVAL_MODEL_SANITY_H_
