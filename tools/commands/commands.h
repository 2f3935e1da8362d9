// SPDX-License-Identifier: Apache-2.0
//
// The subcommands of `qeff`, one file each.

#ifndef QEFF_TOOLS_COMMANDS_COMMANDS_H_
#define QEFF_TOOLS_COMMANDS_COMMANDS_H_

#include <memory>
#include <vector>

#include "tools/command.h"

namespace qeff {

std::unique_ptr<Command> MakeInspectCommand();
std::unique_ptr<Command> MakeTokenizeCommand();
std::unique_ptr<Command> MakeTokenizerTrainCommand();
std::unique_ptr<Command> MakeEmbedCommand();
std::unique_ptr<Command> MakeLogitsCommand();
std::unique_ptr<Command> MakeGenerateCommand();
std::unique_ptr<Command> MakeEvalCommand();
std::unique_ptr<Command> MakePruneCommand();
std::unique_ptr<Command> MakeSensitivityCommand();
std::unique_ptr<Command> MakeQuantizeCommand();
std::unique_ptr<Command> MakeTrainCommand();
std::unique_ptr<Command> MakeTeacherCacheCommand();
std::unique_ptr<Command> MakeDistillCommand();
std::unique_ptr<Command> MakeOptimizeCommand();
std::unique_ptr<Command> MakeCompileCommand();
std::unique_ptr<Command> MakeExportCommand();
std::unique_ptr<Command> MakeImportCommand();
std::unique_ptr<Command> MakeSynthCommand();
std::unique_ptr<Command> MakeDoctorCommand();
std::unique_ptr<Command> MakeCompletionCommand();
// cache ls, cache verify, cache gc.
std::vector<std::unique_ptr<Command>> MakeCacheCommands();

// All of them, in the order of the help.
std::vector<std::unique_ptr<Command>> AllCommands();

}  // namespace qeff

#endif  // QEFF_TOOLS_COMMANDS_COMMANDS_H_
