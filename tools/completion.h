// SPDX-License-Identifier: Apache-2.0
//
// Completion of `qeff` command lines by a shell.

#ifndef QEFF_TOOLS_COMPLETION_H_
#define QEFF_TOOLS_COMPLETION_H_

#include <memory>
#include <string>

#include "absl/types/span.h"
#include "tools/command.h"

namespace qeff {

// A script for bash 4.2 and later that completes names of commands, flags, the
// values of flags with choices, and folders or files for those that take one.
std::string BashCompletion(absl::Span<const std::unique_ptr<Command>> commands);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMPLETION_H_
