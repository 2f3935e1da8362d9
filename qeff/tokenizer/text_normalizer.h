// SPDX-License-Identifier: Apache-2.0
//
// The normalizers of a tokenizer: what is done to a text before it is split.

#ifndef QEFF_TOKENIZER_TEXT_NORMALIZER_H_
#define QEFF_TOKENIZER_TEXT_NORMALIZER_H_

#include <string>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/byte_trie.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// Runs tables->normalizer. Thread-safe. `tables` must outlive it.
//
// Each operation treats an invalid byte as a character that it leaves alone,
// but for kCleanText, which drops it, and kSentencePiece, which makes it
// U+FFFD. Lower case is that of each character by itself.
class TextNormalizer {
 public:
  explicit TextNormalizer(const TokenizerTables* tables);

  // Whether Normalize changes no text.
  bool empty() const { return tables_->normalizer.empty(); }

  // The normalized text. Each operation costs O(n log n) at most.
  std::string Normalize(absl::string_view text) const;

 private:
  std::string Apply(const NormalizerOp& op, absl::string_view text) const;
  std::string SentencePiece(absl::string_view text) const;

  // What the SentencePiece normalizer makes of the beginning of a text.
  struct Step {
    absl::string_view replacement;
    size_t consumed;
  };
  Step SentencePieceStep(absl::string_view text) const;

  const TokenizerTables* tables_;
  ByteTrie user_defined_;  // pieces that kSentencePiece keeps as they are
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_TEXT_NORMALIZER_H_
