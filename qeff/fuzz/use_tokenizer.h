// SPDX-License-Identifier: Apache-2.0
//
// What is done with a tokenizer that was read from a file that may be hostile,
// and what must be true of any.

#ifndef QEFF_FUZZ_USE_TOKENIZER_H_
#define QEFF_FUZZ_USE_TOKENIZER_H_

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/portable_tokenizer.h"

namespace qeff {

// Encodes `text` with and without special tokens, and decodes what comes out.
// Ends the program where an id is none of the vocabulary's, where ids cannot be
// decoded, or where StreamDecoder gives another text than Decode.
void UseTokenizer(const PortableTokenizer& tokenizer, absl::string_view text);

// The same with some short texts: special tokens, broken UTF-8, marks, spaces.
void UseTokenizer(const PortableTokenizer& tokenizer);

}  // namespace qeff

#endif  // QEFF_FUZZ_USE_TOKENIZER_H_
