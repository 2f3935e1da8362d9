// SPDX-License-Identifier: Apache-2.0
//
// The command line: see `qeff help`.

#include <csignal>
#include <cstdio>
#include <new>
#include <string>
#include <vector>

#include "qeff/util/sigbus_guard.h"
#include "qeff/util/status.h"
#include "tools/command.h"
#include "tools/commands/commands.h"
#include "tools/memory_reserve.h"
#include "tools/standard_streams.h"

int main(int argc, char** argv) {
  qeff::OccupyStandardStreams();
  qeff::KeepMemoryReserve();
  qeff::InstallSigbusGuard();
  // A reader that went away is a failed write with a status, not a signal.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    return qeff::RunCommandLine(arguments, qeff::AllCommands(), stdout, stderr);
  } catch (const std::bad_alloc&) {
    // Before a command or after it: in one it is a Status.
    std::fputs("qeff: out of memory\n", stderr);
    return qeff::kExitResource;
  }
}
