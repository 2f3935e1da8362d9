// SPDX-License-Identifier: Apache-2.0
//
// Runs `qeff` commands inside a test.

#ifndef QEFF_TOOLS_COMMANDS_RUN_TESTUTIL_H_
#define QEFF_TOOLS_COMMANDS_RUN_TESTUTIL_H_

#include <string>
#include <vector>

#include "qeff/util/json.h"

namespace qeff {

struct CommandOutcome {
  int code;         // exit code
  std::string out;  // what people read
  std::string err;
  Json json;  // what --json=FILE holds; null after an error
};

// Runs `qeff ARGUMENTS --json=FILE`.
CommandOutcome RunQeff(std::vector<std::string> arguments);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_RUN_TESTUTIL_H_
