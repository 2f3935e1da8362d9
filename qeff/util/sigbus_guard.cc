// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/sigbus_guard.h"

#include <signal.h>
#include <unistd.h>

#include <cstring>

#include "qeff/util/mapped_ranges.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// write(2) is all that a handler may use; there is nothing to do on failure.
void Print(const char* text) {
  (void)!write(STDERR_FILENO, text, std::strlen(text));
}

void OnSigbus(int signal_number, siginfo_t* info, void*) {
  const char* path = info->si_code == BUS_ADRERR
                         ? internal_mapped_ranges::FindPath(info->si_addr)
                         : nullptr;
  if (path == nullptr && info->si_code != BUS_ADRERR) {
    // A bug, not a file: the instruction runs again and kills.
    signal(signal_number, SIG_DFL);
    return;
  }
  Print(path == nullptr ? "a mapped file" : path);
  Print(": file changed while reading (or its disk failed)\n");
  _exit(kExitIo);
}

}  // namespace

void InstallSigbusGuard() {
  struct sigaction action = {};
  action.sa_sigaction = OnSigbus;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  (void)sigaction(SIGBUS, &action, nullptr);
}

}  // namespace qeff
