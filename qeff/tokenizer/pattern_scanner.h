// SPDX-License-Identifier: Apache-2.0
//
// The regular expressions that split text into words before byte-level BPE,
// as state machines: same matches as the expressions, linear time, no stack.

#ifndef QEFF_TOKENIZER_PATTERN_SCANNER_H_
#define QEFF_TOKENIZER_PATTERN_SCANNER_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/tokenizer/tables.h"
#include "qeff/tokenizer/unicode_tables.h"

namespace qeff {

// The pattern that `regex` spells; nullopt when it is not implemented.
absl::optional<SplitPattern> FindSplitPattern(absl::string_view regex);

// The spellings that FindSplitPattern knows, for an error message.
std::string SupportedSplitPatterns();

// Finds successive matches. Thread-safe. `tables` must outlive it and be
// Valid(). An invalid byte is a character that is no letter, number or space.
class PatternScanner {
 public:
  PatternScanner(const UnicodeTables* tables, SplitPattern pattern)
      : tables_(tables), pattern_(pattern) {}

  // End of the match that begins at `begin` < text.size(). Every one of the
  // patterns matches at every position, so matches leave nothing out.
  size_t MatchEnd(absl::string_view text, size_t begin) const;

 private:
  struct Char;
  Char At(absl::string_view text, size_t position) const;
  size_t RunEnd(absl::string_view text, size_t begin, bool (*member)(uint16_t),
                size_t limit) const;
  size_t Gpt2End(absl::string_view text, size_t begin) const;
  size_t Llama3End(absl::string_view text, size_t begin,
                   size_t max_digits) const;
  size_t WhiteSpaceEnd(absl::string_view text, size_t begin,
                       bool newlines_first) const;

  const UnicodeTables* tables_;
  SplitPattern pattern_;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_PATTERN_SCANNER_H_
