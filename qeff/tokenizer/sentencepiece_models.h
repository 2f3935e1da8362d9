// SPDX-License-Identifier: Apache-2.0
//
// The two models of SentencePiece. Source: Kudo and Richardson 2018; Kudo 2018
// (unigram). Ids equal those of libsentencepiece 0.1.97.

#ifndef QEFF_TOKENIZER_SENTENCEPIECE_MODELS_H_
#define QEFF_TOKENIZER_SENTENCEPIECE_MODELS_H_

#include <memory>

#include "qeff/tokenizer/tables.h"
#include "qeff/tokenizer/vocabulary.h"
#include "qeff/tokenizer/word_model.h"

namespace qeff {

// Merges any two neighbours whose concatenation is a piece, best score first.
// `vocabulary` finds normal and user-defined pieces. Both must outlive the
// result. Precondition: tables->scores has one finite score for each token.
std::unique_ptr<const WordModel> MakeSentencePieceBpeModel(
    const TokenizerTables* tables, const Vocabulary* vocabulary);

// The segmentation whose pieces have the greatest sum of scores. Same
// preconditions. Cost: O(n × longest piece).
std::unique_ptr<const WordModel> MakeUnigramModel(
    const TokenizerTables* tables);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_SENTENCEPIECE_MODELS_H_
