// SPDX-License-Identifier: Apache-2.0
//
// How a long text is cut into the sequences that a model is scored on.

#ifndef QEFF_EVAL_WINDOWS_H_
#define QEFF_EVAL_WINDOWS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace qeff {

enum class EvalProtocol : uint8_t {
  // Windows of context_length tokens, BOS first where the model has one, that
  // advance by `stride` text tokens. Every text token is scored exactly once,
  // in the first window that holds it; without BOS the first token of the
  // text has no context and is not scored.
  kWindow,
  // As llama.cpp's perplexity tool: BOS and the text form one sequence, cut
  // into windows of context_length without overlap; the first token of each
  // is replaced by BOS; only tokens after the first half are scored; a last
  // partial window is dropped.
  kLlamaCpp,
};

struct WindowOptions {
  EvalProtocol protocol = EvalProtocol::kWindow;
  int64_t context_length = 0;  // tokens of a sequence, BOS included
  int64_t stride = 0;          // kWindow only; 0 = no overlap
  int64_t max_tokens = 0;      // of the text; 0 = all
};

// One sequence: tokens[i] is scored, given tokens[0..i), for each i in
// [first_scored, tokens.size()).
struct ScoredWindow {
  std::vector<int32_t> tokens;
  int64_t first_scored = 0;  // >= 1
};

// Cuts `text` (ids without special tokens). `bos` is absent for models that
// begin without one. Errors (kInvalidArgument): context_length below 2, a
// stride above the number of text tokens in a window, or a text too short to
// score a single token, which names both lengths.
absl::StatusOr<std::vector<ScoredWindow>> CutWindows(
    absl::Span<const int32_t> text, absl::optional<int32_t> bos,
    const WindowOptions& options);

}  // namespace qeff

#endif  // QEFF_EVAL_WINDOWS_H_
