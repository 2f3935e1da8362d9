// SPDX-License-Identifier: Apache-2.0
//
// A tokenizer as the metadata of a GGUF file, for llama.cpp.

#ifndef QEFF_EXPORT_GGUF_TOKENIZER_H_
#define QEFF_EXPORT_GGUF_TOKENIZER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "qeff/io/gguf_metadata.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// The keys tokenizer.ggml.* for a model whose embedding has `vocab_size` rows,
// which may be more than the tokenizer has tokens: the rest is called [PADn].
// llama.cpp knows a tokenizer by the name of its algorithm:
//   "llama"  SentencePiece BPE. Of a tokenizer.json with byte fallback the
//            scores are made from the merges: the score of a token is minus
//            the rank of its first merge.
//   "gpt2"   byte-level BPE, with "pre" for the expression that splits words.
// Errors (kUnimplemented): other models, normalizers and pre-tokenizers; merges
// whose order no scores can express (those of one token are not neighbours);
// kInvalidArgument when there are more tokens than rows.
// Source: llama.cpp's llama-vocab.cpp and convert_hf_to_gguf.py.
absl::StatusOr<GgufMetadata> GgufTokenizerMetadata(
    const TokenizerTables& tables, int64_t vocab_size);

}  // namespace qeff

#endif  // QEFF_EXPORT_GGUF_TOKENIZER_H_
