// SPDX-License-Identifier: Apache-2.0
//
// What a subcommand of `qeff` is, and running one: flags, threads, the JSON
// result, exit codes.

#ifndef QEFF_TOOLS_COMMAND_H_
#define QEFF_TOOLS_COMMAND_H_

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/util/json.h"
#include "tools/flags.h"

namespace qeff {

// What a running command may use.
struct CommandEnv {
  ThreadPool* pool;
  // For people: stdout, or stderr when --json=- claims stdout.
  FILE* out;
  // Of the processes that run the same command together; null for one.
  GradientReducer* reducer;
};

// What one of several processes is told, that run the same command together.
struct CommandPeers {
  GradientReducer* reducer = nullptr;         // null for one process
  int processors = NumAvailableProcessors();  // the default of --threads
};

// One subcommand. The object holds the values of its flags.
class Command {
 public:
  virtual ~Command() = default;

  // A word, or two with a space between.
  virtual absl::string_view name() const = 0;
  // One line, for the list of commands.
  virtual absl::string_view summary() const = 0;
  // Paragraphs separated by blank lines, for `qeff help COMMAND`.
  virtual absl::string_view description() const = 0;
  // Command lines for the help, without the program's name, one a line.
  virtual absl::string_view examples() const { return ""; }
  virtual void DeclareFlags(FlagTable* flags) = 0;

  // What is wrong with the values of the flags and with their combination, as
  // far as they say so themselves: no file of a model or text is read. Called
  // once they are parsed, and before Run.
  virtual absl::Status Check(const FlagTable&) { return absl::OkStatus(); }

  // Does the work and returns what --json writes. Errors end the process with
  // the exit code that stands for them (util/status.h, UsageError).
  virtual absl::StatusOr<Json> Run(const CommandEnv& env,
                                   const FlagTable& flags) = 0;
};

// Runs `qeff ARGUMENTS...` (without the program's name) with these commands
// and returns the exit code of the process. Messages go to `out` and `err`. Of
// several processes the first writes the JSON result.
int RunCommandLine(absl::Span<const std::string> arguments,
                   absl::Span<const std::unique_ptr<Command>> commands,
                   FILE* out, FILE* err, const CommandPeers& peers = {});

// For commands that are made of others. Runs a command line whose command
// exists (checked), and returns its result.
absl::StatusOr<Json> RunForResult(
    absl::Span<const std::string> arguments,
    absl::Span<const std::unique_ptr<Command>> commands, FILE* out, FILE* err);

// All flags of a command, those that every command has included.
std::vector<FlagInfo> FlagsOf(Command* command);

// Whether the flags of such a command line can be parsed and pass the command's
// Check.
absl::Status CheckArguments(
    absl::Span<const std::string> arguments,
    absl::Span<const std::unique_ptr<Command>> commands);

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMAND_H_
