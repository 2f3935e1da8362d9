// SPDX-License-Identifier: Apache-2.0
//
// Tokenizer tables from a SentencePiece tokenizer.model. libsentencepiece is
// not used: version 0.1.97 crashes on a corrupted normalizer table.

#ifndef QEFF_TOKENIZER_BUILD_FROM_SENTENCEPIECE_H_
#define QEFF_TOKENIZER_BUILD_FROM_SENTENCEPIECE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

struct SentencePieceOptions {
  bool add_bos = true;  // when the model has a BOS
  bool add_eos = false;
};

// Compiles the bytes of a tokenizer.model; `context` (a path) begins every
// error message. As in the tokenizer.json that Hugging Face makes of such a
// file, control pieces and the unknown piece are special tokens that are found
// in a text, and each stretch between two of them gets its own dummy prefix;
// other text gets the ids of libsentencepiece.
//
// Errors: kInvalidArgument when the bytes are no such model, a piece is empty,
// longer than 1 KiB, duplicate or of unknown type, a score is not finite, byte
// pieces are missing or misspelled, there is not one unknown piece, or the
// normalizer's table is inconsistent; kUnimplemented for the model types word
// and char, and for unused pieces in a BPE model.
absl::StatusOr<TokenizerTables> BuildFromSentencePiece(
    absl::string_view model, absl::string_view context,
    const SentencePieceOptions& options);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_BUILD_FROM_SENTENCEPIECE_H_
