// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/same_tokens.h"

#include <cstddef>

#include "absl/strings/escaping.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status CheckSameTokens(const PortableTokenizer& expected,
                             const PortableTokenizer& found) {
  if (expected.vocab_size() != found.vocab_size()) {
    return InvalidInputError("tokenizer: expected ", expected.vocab_size(),
                             " tokens, found ", found.vocab_size());
  }
  const StringPool& wanted = expected.tables().tokens;
  const StringPool& tokens = found.tables().tokens;
  for (size_t id = 0; id < wanted.size(); ++id) {
    if (wanted[id] == tokens[id]) continue;
    return InvalidInputError("tokenizer: token ", id, ": expected \"",
                             absl::Utf8SafeCEscape(wanted[id]), "\", found \"",
                             absl::Utf8SafeCEscape(tokens[id]), "\"");
  }
  return absl::OkStatus();
}

}  // namespace qeff
