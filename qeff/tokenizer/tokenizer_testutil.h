// SPDX-License-Identifier: Apache-2.0
//
// Small tokenizers and texts for tests and benchmarks.

#ifndef QEFF_TOKENIZER_TOKENIZER_TESTUTIL_H_
#define QEFF_TOKENIZER_TOKENIZER_TESTUTIL_H_

#include <cstddef>
#include <string>
#include <vector>

#include "qeff/tokenizer/tables.h"
#include "qeff/util/json.h"

namespace qeff {

// A tokenizer.json of a byte-level BPE with GPT-2's pattern: the 256 bytes as
// ids 0 to 255, then one token for each merge ("t h", spelled in GPT-2's
// alphabet), then "<|end|>", which is special.
Json ByteLevelJson(const std::vector<std::string>& merges);

// A tokenizer.json of a BPE with byte fallback as Llama 2's: <unk>, <s>, </s>,
// the 256 byte tokens, then `pieces`, with `merges`.
Json ByteFallbackJson(const std::vector<std::string>& pieces,
                      const std::vector<std::string>& merges);

// A tokenizer.json of a lower-casing WordPiece as BERT's: [PAD], [UNK], [CLS],
// [SEP], then `pieces`.
Json WordPieceJson(const std::vector<std::string>& pieces);

// A byte-level BPE whose merges build frequent English words.
TokenizerTables MakeEnglishBpe();

// About `bytes` bytes of sentences of frequent English words.
std::string MakeEnglishText(size_t bytes);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_TOKENIZER_TESTUTIL_H_
