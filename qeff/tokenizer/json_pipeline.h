// SPDX-License-Identifier: Apache-2.0
//
// Compiles the four stages of a tokenizer.json around its model: normalizer,
// pre-tokenizer, post-processor, decoder.

#ifndef QEFF_TOKENIZER_JSON_PIPELINE_H_
#define QEFF_TOKENIZER_JSON_PIPELINE_H_

#include <string>

#include "absl/status/status.h"
#include "qeff/tokenizer/tables.h"
#include "qeff/util/json.h"

namespace qeff {

// Each adds to `tables` what the member of tokenizer.json asks for; `context`
// names it in error messages. A member that is null is no operation.
// Errors: kInvalidArgument when something is missing or of the wrong type, or
// there are more than 64 operations; kUnimplemented for a type, an order or a
// regular expression that is not supported, with the list of those that are.
absl::Status CompileNormalizer(const Json& normalizer,
                               const std::string& context,
                               TokenizerTables* tables);
absl::Status CompilePreTokenizer(const Json& pre_tokenizer,
                                 const std::string& context,
                                 TokenizerTables* tables);
absl::Status CompilePostProcessor(const Json& post_processor,
                                  const std::string& context,
                                  TokenizerTables* tables);
// Call after CompilePreTokenizer: without a decoder, a byte-level model is
// decoded as such, and tokens of others are joined by spaces.
absl::Status CompileDecoder(const Json& decoder, const std::string& context,
                            TokenizerTables* tables);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_JSON_PIPELINE_H_
