// SPDX-License-Identifier: Apache-2.0
//
// The part of a tokenizer that turns one word into token ids: the interface of
// bpe_model.h, sentencepiece_models.h and word_piece_model.h.

#ifndef QEFF_TOKENIZER_WORD_MODEL_H_
#define QEFF_TOKENIZER_WORD_MODEL_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace qeff {

// Memory that one Encode call reuses from word to word.
struct WordScratch {
  // A piece of the word, by its place.
  struct Piece {
    uint32_t begin;
    uint32_t length;
    bool frozen;  // never merges
  };
  std::vector<int32_t> ids;
  std::vector<Piece> pieces;
};

// Thread-safe: Encode is const and keeps its state in `scratch`.
class WordModel {
 public:
  virtual ~WordModel() = default;

  // Appends the ids of `word`, which is not empty and under 4 GiB.
  virtual void Encode(absl::string_view word, WordScratch* scratch,
                      std::vector<int32_t>* ids) const = 0;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_WORD_MODEL_H_
