// SPDX-License-Identifier: Apache-2.0
//
// Reads the JSON of a tokenizer.json. The vocabulary and the merges, hundreds
// of thousands of entries, go straight into flat tables; the rest, which is
// small, becomes a tree.

#ifndef QEFF_TOKENIZER_TOKENIZER_JSON_DOCUMENT_H_
#define QEFF_TOKENIZER_TOKENIZER_JSON_DOCUMENT_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/tokenizer/tables.h"
#include "qeff/util/json.h"

namespace qeff {

struct TokenizerJsonDocument {
  // All but the contents of model.vocab and model.merges.
  Json root;
  // model.vocab, an object from token to id, in the order of the file.
  StringPool vocab_tokens;
  std::vector<int32_t> vocab_ids;
  // model.merges: left and right parts in turn.
  StringPool merge_parts;
};

// Parses `text`; `context` (a path) begins every error message.
// Errors (kInvalidArgument): not JSON, nested deeper than 64 levels, duplicate
// keys outside model.vocab, more than a million values or 512 keys in one
// object outside model.vocab and model.merges; an id that is not an integer
// from 0 to 2^26 - 1; a merge that is neither "LEFT RIGHT" nor
// ["LEFT", "RIGHT"].
absl::StatusOr<TokenizerJsonDocument> ParseTokenizerJson(
    absl::string_view text, absl::string_view context);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_TOKENIZER_JSON_DOCUMENT_H_
