// SPDX-License-Identifier: Apache-2.0
//
// Training on several processes and machines: mpirun -n 4 qeff_mpi train ...

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/train/mpi/mpi_reducer.h"
#include "qeff/util/sigbus_guard.h"
#include "qeff/util/status.h"
#include "tools/command.h"
#include "tools/commands/commands.h"
#include "tools/memory_reserve.h"
#include "tools/standard_streams.h"

namespace qeff {
namespace {

// The first process prints; what others print comes to nothing, and their
// errors come last.
int Run(const std::vector<std::string>& arguments, MpiReducer* reducer) {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(MakeTrainCommand());
  commands.push_back(MakeDistillCommand());
  const CommandPeers peers{reducer, reducer->processors()};
  if (reducer->rank() == 0) {
    const int code = RunCommandLine(arguments, commands, stdout, stderr, peers);
    return reducer->End(code, "");
  }
  char* messages = nullptr;
  size_t size = 0;
  FILE* const out = std::fopen("/dev/null", "we");
  FILE* const err = open_memstream(&messages, &size);
  int code = kExitResource;
  if (out != nullptr && err != nullptr) {
    code = RunCommandLine(arguments, commands, out, err, peers);
    std::fclose(out);
    std::fclose(err);
  }
  const std::string text(messages == nullptr ? "" : messages, size);
  std::free(messages);
  return reducer->End(code, text);
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  qeff::OccupyStandardStreams();
  qeff::KeepMemoryReserve();
  const auto reducer = qeff::MpiReducer::Start();
  if (!reducer.ok()) {
    std::fprintf(stderr, "qeff_mpi: %s\n",
                 std::string(reducer.status().message()).c_str());
    return qeff::ExitCodeFor(reducer.status());
  }
  // After MPI, which takes this signal for itself.
  qeff::InstallSigbusGuard();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return qeff::Run({argv + 1, argv + argc}, reducer->get());
  } catch (const std::bad_alloc&) {
    // mpirun ends the others, as without End it must.
    std::fputs("qeff_mpi: out of memory\n", stderr);
    return qeff::kExitResource;
  }
}
