// SPDX-License-Identifier: Apache-2.0

#include "tools/interrupt.h"

#include <atomic>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr char kExitCodePayload[] = "qeff.tools/interrupt_exit_code";
constexpr int kSignalExitCode = 128;  // as a shell reports a signal

// A handler can reach nothing else. 0 while no signal came.
std::atomic<int> caught_signal{0};
static_assert(std::atomic<int>::is_always_lock_free,
              "the handler may not take a lock");
std::atomic<bool> scope_exists{false};

void Note(int signal_number) { caught_signal.store(signal_number); }

}  // namespace

InterruptScope::InterruptScope() {
  QEFF_CHECK(!scope_exists.exchange(true));
  caught_signal.store(0);
  struct sigaction action = {};
  action.sa_handler = Note;
  sigemptyset(&action.sa_mask);
  // System calls go on: only Check ends the work. The second signal finds the
  // default action again.
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  (void)sigaction(SIGINT, &action, &old_interrupt_);
  (void)sigaction(SIGTERM, &action, &old_terminate_);
  // What a parent ignores (nohup, a background job) stays ignored.
  if (old_interrupt_.sa_handler == SIG_IGN) {
    (void)sigaction(SIGINT, &old_interrupt_, nullptr);
  }
  if (old_terminate_.sa_handler == SIG_IGN) {
    (void)sigaction(SIGTERM, &old_terminate_, nullptr);
  }
}

InterruptScope::~InterruptScope() {
  (void)sigaction(SIGINT, &old_interrupt_, nullptr);
  (void)sigaction(SIGTERM, &old_terminate_, nullptr);
  scope_exists.store(false);
}

absl::Status InterruptScope::Check() const {
  const int signal_number = caught_signal.load();
  if (signal_number == 0) return absl::OkStatus();
  absl::Status status = absl::CancelledError(
      signal_number == SIGINT ? "interrupted" : "terminated");
  status.SetPayload(kExitCodePayload,
                    absl::Cord(absl::StrCat(kSignalExitCode + signal_number)));
  return status;
}

absl::optional<int> InterruptExitCode(const absl::Status& status) {
  const absl::optional<absl::Cord> payload =
      status.GetPayload(kExitCodePayload);
  int code;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &code)) {
    return absl::nullopt;
  }
  return code;
}

}  // namespace qeff
