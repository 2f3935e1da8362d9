// SPDX-License-Identifier: Apache-2.0

#include "tools/completion.h"

#include <cstdio>
#include <string>

#include "tools/commands/commands.h"

namespace qeff {
namespace {

class CompletionCommand : public Command {
 public:
  absl::string_view name() const override { return "completion bash"; }
  absl::string_view summary() const override {
    return "Prints a script by which bash completes command lines.";
  }
  absl::string_view description() const override {
    return "Commands, flags, values of flags that have choices, folders and "
           "files. For one shell: eval \"$(qeff completion bash)\". For every "
           "shell of a user: write it to "
           "~/.local/share/bash-completion/completions/qeff.";
  }
  absl::string_view examples() const override { return "completion bash"; }
  void DeclareFlags(FlagTable*) override {}
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    const std::string script = BashCompletion(AllCommands());
    std::fwrite(script.data(), 1, script.size(), env.out);
    return Json{{"script", script}};
  }
};

}  // namespace

std::unique_ptr<Command> MakeCompletionCommand() {
  return std::make_unique<CompletionCommand>();
}

}  // namespace qeff
