// SPDX-License-Identifier: Apache-2.0
//
// Whether two tokenizers mean the same by an id, as models must that read each
// other's tokens: a draft model, a teacher.

#ifndef QEFF_TOKENIZER_SAME_TOKENS_H_
#define QEFF_TOKENIZER_SAME_TOKENS_H_

#include "absl/status/status.h"
#include "qeff/tokenizer/portable_tokenizer.h"

namespace qeff {

// OK when both have the same ids and spell each of them alike. How they split a
// text is not compared. Errors: kInvalidArgument naming how many tokens were
// expected and found, or the first id that is spelled otherwise.
absl::Status CheckSameTokens(const PortableTokenizer& expected,
                             const PortableTokenizer& found);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_SAME_TOKENS_H_
