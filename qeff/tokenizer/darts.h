// SPDX-License-Identifier: Apache-2.0
//
// Reads a double-array trie as SentencePiece stores it for its normalizer.
// Source: Darts-clone, darts.h, DoubleArrayUnit.

#ifndef QEFF_TOKENIZER_DARTS_H_
#define QEFF_TOKENIZER_DARTS_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {

struct DartsMatch {
  uint32_t value;
  size_t length;  // bytes; 0: none
};

// The longest key that begins `text`. Every index is checked: any `units` are
// safe.
DartsMatch LongestDartsMatch(absl::Span<const uint32_t> units,
                             absl::string_view text);

// Whether all that is reachable lies inside `units`, and `valid_value` holds
// for all values. Cost: 256 steps for each unit.
bool ValidDarts(absl::Span<const uint32_t> units,
                bool (*valid_value)(uint32_t value, const void* context),
                const void* context);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_DARTS_H_
