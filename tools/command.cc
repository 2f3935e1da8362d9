// SPDX-License-Identifier: Apache-2.0

#include "tools/command.h"

#include <exception>
#include <new>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "qeff/util/atomic_file.h"
#include "qeff/util/status.h"
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
    flags->Add("threads", &threads, "N",
               "Threads to compute with; 0 uses every processor.");
    flags->Add("json", &json, "FILE",
               "Writes the result as one JSON object to FILE; - is stdout, "
               "and everything else then goes to stderr.");
  }
};

Command* FindCommand(absl::string_view name,
                     absl::Span<const std::unique_ptr<Command>> commands) {
  for (const auto& command : commands) {
    if (command->name() == name) return command.get();
  }
  return nullptr;
}

std::string CommandHelp(Command* command) {
  FlagTable flags;
  CommonFlags common;
  command->DeclareFlags(&flags);
  common.Declare(&flags);
  std::string help = absl::StrCat("qeff ", command->name(), ": ",
                                  command->summary(), "\n\n");
  for (absl::string_view paragraph :
       absl::StrSplit(command->description(), "\n\n", absl::SkipEmpty())) {
    absl::StrAppend(&help, WrapText(paragraph, 0), "\n");
  }
  absl::StrAppend(&help, "Flags:\n", flags.Help());
  return help;
}

std::string GeneralHelp(absl::Span<const std::unique_ptr<Command>> commands) {
  std::string help =
      absl::StrCat("qeff optimizes transformer models.\n\n", kUsage,
                   "\nCommands:\n");
  for (const auto& command : commands) {
    absl::StrAppend(&help, absl::StrFormat("  %-10s %s\n", command->name(),
                                           command->summary()));
  }
  absl::StrAppend(
      &help,
      "\nExit codes: 0 success, 2 usage, 3 invalid input, 4 input/output,\n"
      "5 out of a resource, 6 numerical failure, 130 and 143 interrupted.\n");
  return help;
}

absl::Status UnknownCommand(absl::string_view name,
                            absl::Span<const std::unique_ptr<Command>> all) {
  std::vector<std::string> names = {"help"};
  for (const auto& command : all) names.emplace_back(command->name());
  const std::string nearest = NearestName(name, names);
  return UsageError(absl::StrCat(
      "unknown command '", name, "'",
      nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
}

absl::Status WriteResult(const Json& result, const std::string& path,
                         FILE* out) {
  const std::string text = WriteJson(result);
  if (path != "-") return WriteFileAtomically(path, text);
  Print(out, text);
  return absl::OkStatus();
}

absl::Status RunCommand(Command* command,
                        absl::Span<const std::string> arguments, FILE* out,
                        FILE* err) {
  FlagTable flags;
  CommonFlags common;
  command->DeclareFlags(&flags);
  common.Declare(&flags);
  QEFF_RETURN_IF_ERROR(flags.Parse(arguments));
  if (common.threads < 0 || common.threads > 1024) {
    return UsageError(absl::StrCat("--threads: expected 0 to 1024, found ",
                                   common.threads));
  }
  const int threads =
      common.threads == 0 ? NumAvailableProcessors() : common.threads;
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadPool> pool,
                        CreateThreadPool(threads));
  CommandEnv env{pool.get(), common.json == "-" ? err : out};
  QEFF_ASSIGN_OR_RETURN(const Json result, command->Run(env, flags));
  if (!common.json.empty()) {
    QEFF_RETURN_IF_ERROR(WriteResult(result, common.json, out));
  }
  if (std::fflush(out) != 0 || std::ferror(out) != 0) {
    return absl::UnavailableError("stdout: cannot write the result");
  }
  return absl::OkStatus();
}

// The one place where running out of memory becomes a Status.
absl::Status RunCommandCatching(Command* command,
                                absl::Span<const std::string> arguments,
                                FILE* out, FILE* err) {
  try {
    return RunCommand(command, arguments, out, err);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("unexpected: ", error.what()));
  }
}

int Report(const absl::Status& status, absl::string_view command, FILE* err) {
  if (status.ok()) return kExitOk;
  Print(err, absl::StrCat("qeff", command.empty() ? "" : " ", command, ": ",
                          status.message(), "\n"));
  if (!IsUsageError(status)) return ExitCodeFor(status);
  Print(err, absl::StrCat("See: qeff help", command.empty() ? "" : " ",
                          command, "\n"));
  return kExitUsage;
}

}  // namespace

int RunCommandLine(absl::Span<const std::string> arguments,
                   absl::Span<const std::unique_ptr<Command>> commands,
                   FILE* out, FILE* err) {
  if (arguments.empty()) {
    Print(err, kUsage);
    return kExitUsage;
  }
  const std::string& first = arguments[0];
  if (first == "--version") {
    Print(out, absl::StrCat("qeff ", kQeffVersion, "\n"));
    return kExitOk;
  }
  if (first == "help" || first == "--help") {
    if (arguments.size() > 2) {
      return Report(UsageError("help takes one command"), "", err);
    }
    if (arguments.size() == 1) {
      Print(out, GeneralHelp(commands));
      return kExitOk;
    }
    Command* command = FindCommand(arguments[1], commands);
    if (command == nullptr) {
      return Report(UnknownCommand(arguments[1], commands), "", err);
    }
    Print(out, CommandHelp(command));
    return kExitOk;
  }
  Command* command = FindCommand(first, commands);
  if (command == nullptr) {
    return Report(UnknownCommand(first, commands), "", err);
  }
  const absl::Span<const std::string> rest = arguments.subspan(1);
  for (const std::string& argument : rest) {
    if (argument == "--help") {
      Print(out, CommandHelp(command));
      return kExitOk;
    }
  }
  return Report(RunCommandCatching(command, rest, out, err), command->name(),
                err);
}

}  // namespace qeff
