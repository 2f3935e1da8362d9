// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/commands.h"

#include <utility>

namespace qeff {

std::vector<std::unique_ptr<Command>> AllCommands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(MakeInspectCommand());
  commands.push_back(MakeTokenizeCommand());
  commands.push_back(MakeTokenizerTrainCommand());
  commands.push_back(MakeEmbedCommand());
  commands.push_back(MakeLogitsCommand());
  commands.push_back(MakeGenerateCommand());
  commands.push_back(MakeEvalCommand());
  commands.push_back(MakePruneCommand());
  commands.push_back(MakeSensitivityCommand());
  commands.push_back(MakeQuantizeCommand());
  commands.push_back(MakeTrainCommand());
  commands.push_back(MakeTeacherCacheCommand());
  commands.push_back(MakeDistillCommand());
  commands.push_back(MakeOptimizeCommand());
  commands.push_back(MakeCompileCommand());
  for (auto& command : MakeCacheCommands()) {
    commands.push_back(std::move(command));
  }
  commands.push_back(MakeExportCommand());
  commands.push_back(MakeImportCommand());
  commands.push_back(MakeSynthCommand());
  commands.push_back(MakeDoctorCommand());
  commands.push_back(MakeCompletionCommand());
  return commands;
}

}  // namespace qeff
