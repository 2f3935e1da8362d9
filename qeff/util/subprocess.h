// SPDX-License-Identifier: Apache-2.0
//
// Runs another program to its end, with its output as it comes.

#ifndef QEFF_UTIL_SUBPROCESS_H_
#define QEFF_UTIL_SUBPROCESS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace qeff {

struct SubprocessOptions {
  // Where it runs; "" is where this process is. A path of the program with a
  // slash that is not absolute is looked for there.
  std::string folder;
  absl::Duration timeout = absl::InfiniteDuration();
  // Gets what it writes to stdout and stderr, in the order written, in pieces
  // of any size; may be empty. Called by the calling thread.
  std::function<void(absl::string_view)> on_output;
  // Asked several times a second; an error ends the program and is returned.
  // May be empty.
  std::function<absl::Status()> check;
};

// Runs `command`, of which the first is the program (looked for in PATH unless
// it has a slash), with no input, and returns its exit code. It is a process
// group of its own, and when it is ended before its time, by SIGTERM and five
// seconds later SIGKILL, all of the group is. What it leaves running when it
// exits is not waited for. Errors: kNotFound when there is no such program or
// folder; kUnavailable when it cannot be started or was ended by a signal;
// kResourceExhausted after the timeout; those of `check`. Thread-safe.
// Precondition: `command` is not empty, and SIGCHLD is not ignored.
absl::StatusOr<int> RunSubprocess(const std::vector<std::string>& command,
                                  const SubprocessOptions& options);

}  // namespace qeff

#endif  // QEFF_UTIL_SUBPROCESS_H_
