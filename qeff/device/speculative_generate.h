// SPDX-License-Identifier: Apache-2.0
//
// Speculative decoding: a small draft model proposes a few tokens, and the
// model runs all of them at once, which costs little more than one where
// reading weights bounds decoding. What it agrees with is kept, and a token of
// its own follows, so every pass of the model gives one token at least. The
// text is the model's, whatever the draft model says: that only changes how
// fast it comes. Without a draft model use generate.h or batch_generate.h.
//
//   QEFF_ASSIGN_OR_RETURN(
//       const std::unique_ptr<SpeculativeGenerator> generator,
//       SpeculativeGenerator::Create(engine.get(), draft_engine.get(),
//                                    /*draft_tokens=*/4));
//   BatchRequest request;
//   request.prompt = prompt;  // token ids
//   request.options.max_new_tokens = 100;
//   QEFF_ASSIGN_OR_RETURN(GenerateResult result,
//                         generator->Generate(request));
//   std::cout << FormatSpeculation(result.speculation);
//
// Source: Leviathan et al. 2023 ("Fast Inference from Transformers via
// Speculative Decoding"), Chen et al. 2023 ("Accelerating Large Language Model
// Decoding with Speculative Sampling"). The choice of tokens is
// Sampler::Verify.

#ifndef QEFF_DEVICE_SPECULATIVE_GENERATE_H_
#define QEFF_DEVICE_SPECULATIVE_GENERATE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/device/batch_generate.h"
#include "qeff/device/engine.h"
#include "qeff/device/generation.h"
#include "qeff/device/sampler.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// The tokens of a pass of the model are at most a chunk, and at most the rows
// of logits that an engine makes at once: weights are then read once a pass.
inline constexpr int64_t kMaxDraftTokens = 31;

// Not thread-safe.
class SpeculativeGenerator {
 public:
  // Allocates what Generate needs beside text and tokens; memory is touched as
  // it is used, 16 bytes for each of draft_tokens and token of the vocabulary
  // at most. Both engines must outlive it, have one vocabulary, id by id (the
  // caller compares tokenizers), and may have rows of padding after it.
  // Preconditions: the engines are not the same one.
  // Errors: kInvalidArgument for draft_tokens that are not from 1 to
  // kMaxDraftTokens or do not fit the prefill_chunk of `engine` with one more
  // token, and for a context_length of the draft engine below that of `engine`.
  static absl::StatusOr<std::unique_ptr<SpeculativeGenerator>> Create(
      Engine* engine, Engine* draft, int64_t draft_tokens);

  // Returns, in slot 0 of both engines, which is reset first, what
  // GenerateBatch does for the request: when greedy the same tokens, text and
  // end, otherwise those of exactly the same distribution (other random numbers
  // are drawn, so a seed gives another text; it is a function of request,
  // models and draft_tokens). Filters and the repetition penalty apply to the
  // proposals as well, and the penalty sees only tokens that were kept. The
  // draft model reads the prompt after the first token was chosen, so that one
  // does not wait for it.
  // Errors: those of GenerateBatch; kInvalidArgument when the draft model has
  // fewer logits than the request chooses among; those of its logits begin with
  // "draft". Callbacks must use neither engine.
  absl::StatusOr<GenerateResult> Generate(const BatchRequest& request);

  // The same for several, one after another: the error of one does not end the
  // others. Side by side they would gain less, since reading weights bounds a
  // step of several sequences no more.
  std::vector<absl::StatusOr<GenerateResult>> GenerateEach(
      absl::Span<const BatchRequest> requests);

 private:
  // A sequence that runs.
  struct Sequence {
    absl::Span<const int32_t> prompt;
    Sampler* sampler;
    internal_device::Generation* generation;
    Speculation speculation;
  };

  SpeculativeGenerator(Engine* engine, Engine* draft, int64_t draft_tokens);

  absl::StatusOr<GenerateResult> Run(const BatchRequest& request);
  // Runs the prompt and chooses the first token; true when it is the last one.
  absl::StatusOr<bool> RunPrompt(const Sequence& sequence);
  // Proposes and verifies; true when the last token was chosen.
  absl::StatusOr<bool> RunPass(Sequence* sequence);
  // Fills `count` proposals and the tokens of a pass.
  absl::Status Propose(int64_t count, const Sequence& sequence);
  // The draft model's logits after the sequence and `proposed`.
  absl::StatusOr<absl::Span<const float>> DraftLogits(
      const Sequence& sequence, absl::Span<const int32_t> proposed);
  // Takes tokens from the logits of a pass while they are the proposed ones,
  // and one more; true when the last one was chosen.
  absl::StatusOr<bool> TakePass(MatrixView<const float> logits,
                                Sequence* sequence);

  Engine* const engine_;
  Engine* const draft_;
  std::vector<Proposal> proposals_;   // [draft_tokens]
  std::vector<int32_t> pass_tokens_;  // the last one and the proposals
};

}  // namespace qeff

#endif  // QEFF_DEVICE_SPECULATIVE_GENERATE_H_
