// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/token_list.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::vector<int32_t>> ParseTokenList(absl::string_view text) {
  std::vector<int32_t> tokens;
  text = absl::StripAsciiWhitespace(text);
  if (text.empty()) return tokens;
  for (absl::string_view field : absl::StrSplit(text, ',')) {
    int32_t token = -1;
    if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(field), &token) ||
        token < 0) {
      return InvalidInputError("tokens: expected ids such as 1,5,7, found '",
                               field, "'");
    }
    tokens.push_back(token);
  }
  return tokens;
}

}  // namespace qeff
