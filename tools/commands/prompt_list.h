// SPDX-License-Identifier: Apache-2.0
//
// A file of prompts, one a line.

#ifndef QEFF_TOOLS_COMMANDS_PROMPT_LIST_H_
#define QEFF_TOOLS_COMMANDS_PROMPT_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace qeff {

// The lines of the file at `path` that are not empty, without their ends ("\n"
// or "\r\n"). Errors: those of reading; kInvalidArgument when there is none, or
// the file has more than 1 GiB.
absl::StatusOr<std::vector<std::string>> ReadPromptList(
    const std::string& path);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_PROMPT_LIST_H_
