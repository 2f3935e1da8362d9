// SPDX-License-Identifier: Apache-2.0
//
// Generation for several prompts at once (continuous batching): as many run
// side by side as the engine has slots, and when one ends, the next takes its
// slot while the others go on. For one prompt, or for a conversation that goes
// on where the engine is, see generate.h.
//
//   std::vector<BatchRequest> requests(prompts.size());
//   for (size_t i = 0; i < prompts.size(); ++i) {
//     requests[i].prompt = prompts[i];  // token ids
//     requests[i].options.max_new_tokens = 100;
//     requests[i].options.eos_token_ids = {2};
//   }
//   for (const absl::StatusOr<GenerateResult>& result :
//        GenerateBatch(requests, engine.get())) {
//     if (result.ok()) Use(result->tokens);
//   }

#ifndef QEFF_DEVICE_BATCH_GENERATE_H_
#define QEFF_DEVICE_BATCH_GENERATE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/device/engine.h"
#include "qeff/device/generation.h"
#include "qeff/device/sampler.h"

namespace qeff {

// As the arguments of Generate. The sampler is made when the request gets a
// slot, so that memory follows the slots and not the requests.
struct BatchRequest {
  absl::Span<const int32_t> prompt;
  GenerateOptions options;
  GenerateCallbacks callbacks;
  SamplerOptions sampling;
  // Tokens to choose among: those below it; 0 is all of the model.
  int64_t vocab_size = 0;
  // Called once with what GenerateBatch will return, as soon as it is known;
  // may be unset.
  std::function<void(const absl::StatusOr<GenerateResult>& result)> on_done;
};

// Returns for each request, in order, what Generate returns for it alone with
// an empty slot and a new sampler: the same tokens and text, whatever runs
// beside it and for any number of slots and threads. A request that fails, also
// by an error of its own callback, does not end the others.
// A step runs one token of every slot that decodes and then, oldest first,
// pieces of prompts, all together at most the larger of prefill_chunk and the
// slots that decode: prompts delay the others by one chunk at most, and wait
// while more slots decode than prefill_chunk has room for.
// Callbacks are called in the calling thread, those of one request in the order
// of Generate, after the step that they belong to. `requests` must outlive the
// call and must not be changed by callbacks; they must not use the engine. All
// slots of the engine are reset first and left as the requests leave them.
// Timing: start_seconds is when a request got its slot; a step counts for all
// that it served. FormatPerformance (performance.h) adds them up.
// Errors of a request: those of Generate and of Sampler::Create, and
// kInvalidArgument for a vocab_size above the model's.
std::vector<absl::StatusOr<GenerateResult>> GenerateBatch(
    absl::Span<const BatchRequest> requests, Engine* engine);

namespace internal_device {

// Makes the slot empty and the sampler of a request, which finds what
// GenerateBatch refuses about it.
absl::StatusOr<Sampler> BeginRequest(const BatchRequest& request, int64_t slot,
                                     Engine* engine);

}  // namespace internal_device
}  // namespace qeff

#endif  // QEFF_DEVICE_BATCH_GENERATE_H_
