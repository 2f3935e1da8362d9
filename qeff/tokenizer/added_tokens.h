// SPDX-License-Identifier: Apache-2.0
//
// Finds added tokens (special ones such as <|endoftext|> among them) in a text.

#ifndef QEFF_TOKENIZER_ADDED_TOKENS_H_
#define QEFF_TOKENIZER_ADDED_TOKENS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/byte_trie.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// One set of added tokens: those looked for before, or those looked for after
// normalization. Thread-safe.
class AddedTokenMatcher {
 public:
  // `unicode` must outlive it.
  explicit AddedTokenMatcher(const UnicodeTables* unicode)
      : unicode_(unicode) {}

  // Looks for `spelling`, which is not empty, as `token`. The first of two
  // equal spellings counts.
  void Add(absl::string_view spelling, const AddedToken& token);

  // A stretch of the text.
  struct Section {
    size_t begin;
    size_t end;
    int32_t id;  // -1: no added token
  };

  // The sections of `text`, in order, none empty; white space that a token
  // swallows belongs to it. Of matches that begin at one place the longest
  // counts. Cost: O(n × longest token).
  std::vector<Section> Split(absl::string_view text) const;

 private:
  struct Token {
    int32_t id;
    bool single_word;
    bool lstrip;
    bool rstrip;
  };

  size_t NextCandidate(absl::string_view text, size_t begin) const;
  bool StandsAlone(absl::string_view text, size_t begin, size_t end) const;
  size_t SpacesBegin(absl::string_view text, size_t least, size_t end) const;
  size_t SpacesEnd(absl::string_view text, size_t begin) const;

  const UnicodeTables* unicode_;
  ByteTrie trie_;
  std::vector<Token> tokens_;
  bool first_bytes_[256] = {};  // of any token
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_ADDED_TOKENS_H_
