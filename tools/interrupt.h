// SPDX-License-Identifier: Apache-2.0
//
// Ends long work at a safe point when the user asks for it, so that nothing
// half done is left behind. Commands that write nothing need none of this: the
// signal ends the process.
//
//   const InterruptScope interrupt;
//   while (...) {
//     QEFF_RETURN_IF_ERROR(interrupt.Check());
//     ...
//   }

#ifndef QEFF_TOOLS_INTERRUPT_H_
#define QEFF_TOOLS_INTERRUPT_H_

#include <csignal>

#include "absl/status/status.h"
#include "absl/types/optional.h"

namespace qeff {

// While one lives, the first SIGINT or SIGTERM is only noted; the second of its
// kind ends the process as always. At most one at a time (checked). The const
// methods are thread-safe.
class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  // kCancelled, with the exit code that InterruptExitCode reads, after a
  // signal; OK before.
  absl::Status Check() const;

 private:
  struct sigaction old_interrupt_;
  struct sigaction old_terminate_;
};

// 130 or 143 for a status of InterruptScope::Check, nothing for others.
absl::optional<int> InterruptExitCode(const absl::Status& status);

}  // namespace qeff

#endif  // QEFF_TOOLS_INTERRUPT_H_
