// SPDX-License-Identifier: Apache-2.0
//
// Tokenizer tables from a Hugging Face tokenizer.json.

#ifndef QEFF_TOKENIZER_BUILD_FROM_JSON_H_
#define QEFF_TOKENIZER_BUILD_FROM_JSON_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// Compiles the text of a tokenizer.json; `context` (a path) begins every error
// message. Models: BPE (byte-level, or of characters with or without byte
// fallback) and WordPiece; where model.type is missing, a model with merges is
// BPE, one with continuing_subword_prefix is WordPiece. truncation and padding
// are ignored.
//
// Ids: those of model.vocab and of added_tokens together must be 0 to n - 1,
// each used once, but for at most 1024 unused ones above model.vocab
// (tokenizers that come from tiktoken have such gaps between added tokens).
// An added token that is also in model.vocab must have the same id.
//
// Errors: kInvalidArgument and kUnimplemented, as of ParseTokenizerJson
// (tokenizer_json_document.h) and json_pipeline.h, and for the above.
absl::StatusOr<TokenizerTables> BuildFromTokenizerJson(
    absl::string_view text, absl::string_view context);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_BUILD_FROM_JSON_H_
