// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/run_testutil.h"

#include <cstdio>
#include <cstdlib>

#include "gtest/gtest.h"
#include "tools/command.h"
#include "tools/commands/commands.h"

namespace qeff {

CommandOutcome RunQeff(std::vector<std::string> arguments) {
  const std::string json_path = ::testing::TempDir() + "/outcome.json";
  std::remove(json_path.c_str());
  arguments.push_back("--json=" + json_path);
  char* buffers[2] = {nullptr, nullptr};
  size_t sizes[2];
  FILE* out = open_memstream(&buffers[0], &sizes[0]);
  FILE* err = open_memstream(&buffers[1], &sizes[1]);
  CommandOutcome outcome;
  outcome.code = RunCommandLine(arguments, AllCommands(), out, err);
  std::fclose(out);
  std::fclose(err);
  outcome.out = std::string(buffers[0], sizes[0]);
  outcome.err = std::string(buffers[1], sizes[1]);
  std::free(buffers[0]);
  std::free(buffers[1]);
  if (outcome.code == 0) {
    const auto json = ReadJsonFile(json_path, uint64_t{1} << 30);
    EXPECT_TRUE(json.ok()) << json.status();
    if (json.ok()) outcome.json = *json;
  }
  return outcome;
}

}  // namespace qeff
