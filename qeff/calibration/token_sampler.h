// SPDX-License-Identifier: Apache-2.0
//
// Which pieces of a text a model is calibrated on.

#ifndef QEFF_CALIBRATION_TOKEN_SAMPLER_H_
#define QEFF_CALIBRATION_TOKEN_SAMPLER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace qeff {

struct SampleOptions {
  int64_t tokens = 16384;          // in all sequences, at least; BOS included
  int64_t sequence_length = 2048;  // of every sequence, BOS included
  uint64_t seed = 0;
};

struct TokenSample {
  std::vector<std::vector<int32_t>> sequences;
  int64_t tokens = 0;  // in all; less than asked for where the text is short
};

// Cuts `text` (ids without special tokens) into pieces that follow one another,
// each a sequence with `bos` (absent for models that begin without one) before
// it, and draws as many as are needed, without repetition, in the text's
// order. What is left at the end of the text is dropped, unless nothing else is
// there. The same arguments give the same sample on every machine.
// Errors (kInvalidArgument): an empty text; tokens below 1, a sequence that has
// no room for a token beside BOS.
absl::StatusOr<TokenSample> SampleTokens(absl::Span<const int32_t> text,
                                         absl::optional<int32_t> bos,
                                         const SampleOptions& options);

}  // namespace qeff

#endif  // QEFF_CALIBRATION_TOKEN_SAMPLER_H_
