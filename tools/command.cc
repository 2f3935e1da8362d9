// SPDX-License-Identifier: Apache-2.0

#include "tools/command.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <new>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "qeff/train/agreement.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/check.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/nearest_name.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"
#include "tools/interrupt.h"
#include "tools/version.h"

namespace qeff {
namespace {

constexpr char kUsage[] =
    "usage: qeff COMMAND [--flag=value ...]\n"
    "       qeff help [COMMAND]\n"
    "       qeff --version\n";

void Print(FILE* file, absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), file);
}

// Flags that every command has.
struct CommonFlags {
  int32_t threads = 0;
  std::string json;

  void Declare(FlagTable* flags) {
    flags->BeginSection("Of every command");
    flags->Add("threads", &threads, "N",
               "Threads to compute with; 0 uses every processor.");
    flags->Add("json", &json, "FILE",
               "Writes the result as one JSON object to FILE, replacing it; - "
               "is stdout, and everything else then goes to stderr.");
  }
};

// The command whose name, of one word or two, `arguments` begin with, and the
// number of its words; null when there is none.
std::pair<Command*, size_t> FindCommand(
    absl::Span<const std::string> arguments,
    absl::Span<const std::unique_ptr<Command>> commands) {
  for (size_t words = 1; words <= std::min<size_t>(2, arguments.size());
       ++words) {
    const std::string name = absl::StrJoin(arguments.subspan(0, words), " ");
    for (const auto& command : commands) {
      if (command->name() == name) return {command.get(), words};
    }
  }
  return {nullptr, 0};
}

constexpr char kExitCodes[] =
    "Exit codes: 0 success, 2 usage, 3 invalid input, 4 input/output,\n"
    "5 out of a resource, 6 numerical failure, 130 and 143 interrupted.\n";

// A command line as it is typed into a terminal of 80 columns.
std::string CommandLine(absl::string_view arguments) {
  std::string text = "  qeff";
  size_t column = text.size();
  for (absl::string_view word : absl::StrSplit(arguments, ' ')) {
    if (column + 1 + word.size() > 78) {
      text += " \\\n     ";
      column = 5;
    }
    absl::StrAppend(&text, " ", word);
    column += 1 + word.size();
  }
  return text + "\n";
}

std::string CommandHelp(Command* command) {
  FlagTable flags;
  CommonFlags common;
  command->DeclareFlags(&flags);
  common.Declare(&flags);
  std::string help = absl::StrCat("qeff ", command->name(), ": ",
                                  command->summary(), "\n\nUsage:\n");
  std::string usage(command->name());
  for (const FlagInfo& flag : flags.List()) {
    if (!flag.required) continue;
    absl::StrAppend(&usage, " --", flag.name, "=", flag.placeholder);
  }
  absl::StrAppend(&help, CommandLine(usage + " [--flag=value ...]"), "\n");
  for (absl::string_view paragraph :
       absl::StrSplit(command->description(), "\n\n", absl::SkipEmpty())) {
    absl::StrAppend(&help, WrapText(paragraph, 0), "\n");
  }
  absl::StrAppend(&help, flags.Help(), "\nExamples:\n");
  for (absl::string_view example :
       absl::StrSplit(command->examples(), '\n', absl::SkipEmpty())) {
    absl::StrAppend(&help, CommandLine(example));
  }
  absl::StrAppend(&help, "\n", kExitCodes);
  return help;
}

std::string GeneralHelp(absl::Span<const std::unique_ptr<Command>> commands) {
  std::string help = absl::StrCat("qeff optimizes transformer models.\n\n",
                                  kUsage, "\nCommands:\n");
  for (const auto& command : commands) {
    absl::StrAppend(&help, absl::StrFormat("  %-15s %s\n", command->name(),
                                           command->summary()));
  }
  absl::StrAppend(&help, "\n", kExitCodes);
  return help;
}

absl::Status UnknownCommand(absl::string_view name,
                            absl::Span<const std::unique_ptr<Command>> all) {
  std::vector<std::string> names = {"help"}, longer;
  for (const auto& command : all) {
    names.emplace_back(command->name());
    if (absl::StartsWith(command->name(), absl::StrCat(name, " "))) {
      longer.emplace_back(command->name());
    }
  }
  if (!longer.empty()) {
    return UsageError(absl::StrCat("'", name, "': expected one of ",
                                   absl::StrJoin(longer, ", ")));
  }
  return UsageError(
      absl::StrCat("unknown command '", name, "'", DidYouMean(name, names)));
}

// OK unless something that was printed has been lost.
absl::Status Flush(FILE* out) {
  if (std::fflush(out) == 0 && std::ferror(out) == 0) return absl::OkStatus();
  return absl::UnavailableError("stdout: cannot write the result");
}

// Whether `path` is a stream of bytes, such as a pipe or /dev/stderr, rather
// than a file to put something new in the place of.
bool IsStream(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && !S_ISDIR(info.st_mode) &&
         (!S_ISREG(info.st_mode) || absl::StartsWith(path, "/dev/"));
}

absl::Status WriteToStream(const std::string& path, const std::string& text) {
  FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) return OutputError(path, "open", errno);
  Print(file, text);
  const bool failed = std::ferror(file) != 0;
  if (std::fclose(file) == 0 && !failed) return absl::OkStatus();
  return OutputError(path, "write", errno);
}

absl::Status WriteResult(const Json& result, const std::string& path,
                         FILE* out) {
  const std::string text = WriteJson(result);
  if (path == "-") {
    Print(out, text);
    return absl::OkStatus();
  }
  if (!IsStream(path)) return WriteFileAtomically(path, text);
  // In the order of the text that has been printed, should it be the same
  // stream.
  QEFF_RETURN_IF_ERROR(Flush(out));
  return WriteToStream(path, text);
}

absl::StatusOr<Json> RunCommand(Command* command,
                                absl::Span<const std::string> arguments,
                                FILE* out, FILE* err,
                                const CommandPeers& peers) {
  FlagTable flags;
  CommonFlags common;
  command->DeclareFlags(&flags);
  common.Declare(&flags);
  QEFF_RETURN_IF_ERROR(flags.Parse(arguments));
  if (common.threads < 0 || common.threads > 1024) {
    return UsageError(
        absl::StrCat("--threads: expected 0 to 1024, found ", common.threads));
  }
  QEFF_RETURN_IF_ERROR(command->Check(flags));
  const int threads = common.threads == 0 ? peers.processors : common.threads;
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadPool> pool,
                        CreateThreadPool(threads));
  CommandEnv env{pool.get(), common.json == "-" ? err : out, peers.reducer};
  QEFF_ASSIGN_OR_RETURN(Json result, command->Run(env, flags));
  if (!common.json.empty() && IsFirst(peers.reducer)) {
    QEFF_RETURN_IF_ERROR(WriteResult(result, common.json, out));
  }
  return result;
}

// The one place where running out of memory becomes a Status.
absl::StatusOr<Json> RunCommandCatching(Command* command,
                                        absl::Span<const std::string> arguments,
                                        FILE* out, FILE* err,
                                        const CommandPeers& peers) {
  try {
    (void)OutOfMemoryError();  // while there is memory
    return RunCommand(command, arguments, out, err, peers);
  } catch (const std::bad_alloc&) {
    return OutOfMemoryError();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("unexpected: ", error.what()));
  }
}

int Report(const absl::Status& status, absl::string_view command, FILE* err) {
  if (status.ok()) return kExitOk;
  Print(err, absl::StrCat("qeff", command.empty() ? "" : " ", command, ": ",
                          status.message(), "\n"));
  const absl::optional<int> interrupted = InterruptExitCode(status);
  if (interrupted.has_value()) return *interrupted;
  if (!IsUsageError(status)) return ExitCodeFor(status);
  Print(err, absl::StrCat("See: qeff help", command.empty() ? "" : " ", command,
                          "\n"));
  return kExitUsage;
}

// Prints `text`, which is all that was asked for.
int PrintAndReport(const std::string& text, FILE* out, FILE* err) {
  Print(out, text);
  return Report(Flush(out), "", err);
}

}  // namespace

int RunCommandLine(absl::Span<const std::string> arguments,
                   absl::Span<const std::unique_ptr<Command>> commands,
                   FILE* out, FILE* err, const CommandPeers& peers) {
  if (arguments.empty()) {
    Print(err, kUsage);
    return kExitUsage;
  }
  const std::string& first = arguments[0];
  if (first == "--version") {
    return PrintAndReport(absl::StrCat("qeff ", kQeffVersion, "\n"), out, err);
  }
  if (first == "help" || first == "--help") {
    if (arguments.size() == 1) {
      return PrintAndReport(GeneralHelp(commands), out, err);
    }
    const absl::Span<const std::string> name = arguments.subspan(1);
    const auto [command, words] = FindCommand(name, commands);
    if (command == nullptr) {
      return Report(UnknownCommand(name[0], commands), "", err);
    }
    if (words < name.size()) {
      return Report(UsageError("help takes one command"), "", err);
    }
    return PrintAndReport(CommandHelp(command), out, err);
  }
  const auto [command, words] = FindCommand(arguments, commands);
  if (command == nullptr) {
    return Report(UnknownCommand(first, commands), "", err);
  }
  const absl::Span<const std::string> rest = arguments.subspan(words);
  for (const std::string& argument : rest) {
    if (argument == "--help") {
      return PrintAndReport(CommandHelp(command), out, err);
    }
  }
  absl::Status status =
      RunCommandCatching(command, rest, out, err, peers).status();
  // Only now: that nobody reads what is printed does not end a command between
  // its steps.
  if (status.ok()) status = Flush(out);
  return Report(status, command->name(), err);
}

absl::StatusOr<Json> RunForResult(
    absl::Span<const std::string> arguments,
    absl::Span<const std::unique_ptr<Command>> commands, FILE* out, FILE* err) {
  const auto [command, words] = FindCommand(arguments, commands);
  QEFF_CHECK(command != nullptr);
  return RunCommandCatching(command, arguments.subspan(words), out, err, {});
}

std::vector<FlagInfo> FlagsOf(Command* command) {
  FlagTable flags;
  CommonFlags common;
  command->DeclareFlags(&flags);
  common.Declare(&flags);
  return flags.List();
}

absl::Status CheckArguments(
    absl::Span<const std::string> arguments,
    absl::Span<const std::unique_ptr<Command>> commands) {
  const auto [command, words] = FindCommand(arguments, commands);
  QEFF_CHECK(command != nullptr);
  FlagTable flags;
  CommonFlags common;
  command->DeclareFlags(&flags);
  common.Declare(&flags);
  QEFF_RETURN_IF_ERROR(flags.Parse(arguments.subspan(words)));
  return command->Check(flags);
}

}  // namespace qeff
