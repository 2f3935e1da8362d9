// SPDX-License-Identifier: Apache-2.0
//
// WordPiece: the longest piece that begins a word, then the longest one that
// continues it, and so on. Source: Devlin et al. 2018, tokenization.py.

#ifndef QEFF_TOKENIZER_WORD_PIECE_MODEL_H_
#define QEFF_TOKENIZER_WORD_PIECE_MODEL_H_

#include <memory>

#include "qeff/tokenizer/tables.h"
#include "qeff/tokenizer/word_model.h"

namespace qeff {

// A word that no pieces cover, or of more than tables->max_chars_per_word
// characters, is the unknown token. `tables` must outlive the result.
std::unique_ptr<const WordModel> MakeWordPieceModel(
    const TokenizerTables* tables);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_WORD_PIECE_MODEL_H_
