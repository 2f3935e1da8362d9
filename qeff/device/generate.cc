// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/generate.h"

#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<GenerateResult> Generate(absl::Span<const int32_t> prompt,
                                        const GenerateOptions& options,
                                        const GenerateCallbacks& callbacks,
                                        Engine* engine, Sampler* sampler) {
  using internal_device::Generation;
  QEFF_RETURN_IF_ERROR(Generation::Check(prompt, options, callbacks));
  Generation generation(prompt, options, callbacks, sampler);
  for (bool finished = false; !finished;) {
    const absl::Span<const int32_t> tokens = generation.pending();
    QEFF_ASSIGN_OR_RETURN(const absl::Span<const float> logits,
                          engine->Append(tokens));
    generation.Ran(tokens.size());
    QEFF_ASSIGN_OR_RETURN(
        finished, generation.TakeLogits(
                      logits, engine->position() == engine->context_length()));
  }
  return generation.Finish();
}

}  // namespace qeff
