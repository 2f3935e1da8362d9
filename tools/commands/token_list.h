// SPDX-License-Identifier: Apache-2.0
//
// Token ids on a command line: "1,5,7".

#ifndef QEFF_TOOLS_COMMANDS_TOKEN_LIST_H_
#define QEFF_TOOLS_COMMANDS_TOKEN_LIST_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qeff {

// Parses ids from 0 to 2^31 - 1, separated by commas and optional white
// space; an empty text is no ids. Errors: kInvalidArgument with the field.
absl::StatusOr<std::vector<int32_t>> ParseTokenList(absl::string_view text);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_TOKEN_LIST_H_
