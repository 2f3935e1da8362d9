// SPDX-License-Identifier: Apache-2.0
//
// Byte-pair encoding by a list of merges, over bytes (GPT-2, Llama 3, Qwen) or
// characters with byte fallback (Llama 2).

#ifndef QEFF_TOKENIZER_BPE_MODEL_H_
#define QEFF_TOKENIZER_BPE_MODEL_H_

#include <memory>

#include "qeff/tokenizer/tables.h"
#include "qeff/tokenizer/vocabulary.h"
#include "qeff/tokenizer/word_model.h"

namespace qeff {

// `pieces` are the tokens as the model sees them: bytes for a byte-level one;
// `vocabulary` finds those of the model. All three must outlive the result.
// Precondition: every id in the tables is below tables->tokens.size(), and a
// byte-level vocabulary has all 256 bytes. Cost: encodes every token once.
std::unique_ptr<const WordModel> MakeBpeModel(const TokenizerTables* tables,
                                              const StringPool* pieces,
                                              const Vocabulary* vocabulary);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_BPE_MODEL_H_
