// SPDX-License-Identifier: Apache-2.0
//
// The pieces of a byte-pair encoding that make a text short.
//
// libsentencepiece has a trainer, but also an Abseil of its own, older one, and
// so cannot be linked into a program that uses this repository.

#ifndef QEFF_TOKENIZER_TRAIN_BPE_H_
#define QEFF_TOKENIZER_TRAIN_BPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/util/hash_map.h"

namespace qeff {

// What is counted: words as they are in the text, with "▁" (U+2581) for the
// space or line that they begin after, and how often.
using WordCounts = HashMap<std::string, int64_t>;

// Adds the words of `text`, UTF-8 (bytes that are not are left out). A word
// begins at each space, and where letters, digits and others meet: pieces do
// not go across. Spaces become "▁"; the first word of each line has one before
// it, too. Line ends are no part of words.
void AddWords(absl::string_view text, WordCounts* words);

// What a vocabulary is made of.
struct BpePieces {
  // In the order in which they are merged: two that are there become one.
  std::vector<std::string> merges;
  std::vector<std::string> characters;  // the most frequent first
};

// `size` pieces in all. Characters that make up the rarest 1 in 2000 are left
// to bytes. Then, again and again, the two neighbours that are most frequent
// become a piece (of equals the shortest, then the first in the order of
// bytes), of up to 16 characters. The same for the same counts on every
// machine. Errors: kInvalidArgument when there are no words, more characters
// than `size`, or too few different pairs, naming how many pieces there could
// be. Cost: grows with the different words, and with how often pairs change.
// Source: Sennrich et al. 2016 (byte-pair encoding), with the limits that
// SentencePiece has by default.
absl::StatusOr<BpePieces> TrainBpe(const WordCounts& words, int64_t size);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_TRAIN_BPE_H_
