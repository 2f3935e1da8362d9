// SPDX-License-Identifier: Apache-2.0
//
// What bash completes, asked of bash.

#include <sys/stat.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/subprocess.h"
#include "tools/commands/commands.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

class CompletionTest : public ::testing::Test {
 protected:
  CompletionTest() : folder_(MakeTestFolder()) {
    const CommandOutcome outcome = RunQeff({"completion", "bash"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    WriteTestFile(folder_ + "/script", outcome.out);
  }

  // What bash offers for the last of the words after `qeff`, in the folder.
  std::vector<std::string> Complete(std::vector<std::string> words) {
    std::string line = "set -u; source script; COMP_WORDS=(qeff";
    for (const std::string& word : words)
      absl::StrAppend(&line, " '", word, "'");
    absl::StrAppend(&line, "); COMP_CWORD=", words.size(),
                    "; _qeff; printf '%s\\n' \"${COMPREPLY[@]}\"");
    std::string output;
    SubprocessOptions options;
    options.folder = folder_;
    options.on_output = [&output](absl::string_view text) {
      absl::StrAppend(&output, text);
    };
    const auto code = RunSubprocess({"bash", "--norc", "-c", line}, options);
    EXPECT_TRUE(code.ok() && *code == 0) << output;
    return absl::StrSplit(output, '\n', absl::SkipEmpty());
  }

  std::string folder_;
};

TEST_F(CompletionTest, Commands) {
  const auto all = Complete({""});
  for (const auto& command : AllCommands()) {
    const std::string first =
        std::vector<std::string>(absl::StrSplit(command->name(), ' '))[0];
    EXPECT_THAT(all, Contains(first).Times(1));
  }
  EXPECT_THAT(all, Contains("--version"));
  EXPECT_THAT(Complete({"qu"}), ElementsAre("quantize"));
  EXPECT_THAT(Complete({"help", "qu"}), ElementsAre("quantize"));
  EXPECT_THAT(Complete({"nothing", ""}), IsEmpty());
}

TEST_F(CompletionTest, CommandsOfTwoWords) {
  EXPECT_THAT(Complete({"cach"}), ElementsAre("cache"));
  EXPECT_THAT(Complete({"cache", ""}),
              UnorderedElementsAre("ls", "verify", "gc"));
  EXPECT_THAT(Complete({"cache", "v"}), ElementsAre("verify"));
  EXPECT_THAT(Complete({"help", "cache", "g"}), ElementsAre("gc"));
  EXPECT_THAT(Complete({"cache", "gc", "--old"}), ElementsAre("--older_than="));
}

TEST_F(CompletionTest, Flags) {
  EXPECT_THAT(Complete({"quantize", "--sche"}), ElementsAre("--scheme="));
  // Bools take no value.
  EXPECT_THAT(Complete({"quantize", "--dry"}), ElementsAre("--dry_run"));
  EXPECT_THAT(Complete({"quantize", "--dry_run", "--sche"}),
              ElementsAre("--scheme="));
  EXPECT_THAT(Complete({"quantize", "--js"}), ElementsAre("--json="));
  EXPECT_THAT(Complete({"quantize", ""}), Not(Contains("--shape=")));
}

TEST_F(CompletionTest, Choices) {
  const auto rules = UnorderedElementsAre("signed_max", "absmax");
  // With = among the characters that break words, and without.
  EXPECT_THAT(Complete({"quantize", "--scale_rule", "="}), rules);
  EXPECT_THAT(Complete({"quantize", "--scale_rule", "=", "ab"}),
              ElementsAre("absmax"));
  EXPECT_THAT(Complete({"quantize", "--scale_rule=ab"}),
              ElementsAre("--scale_rule=absmax"));
  EXPECT_THAT(Complete({"quantize", "--scale_rule", ""}), rules);
  EXPECT_THAT(Complete({"quantize", "--dry_run", "=", "t"}),
              ElementsAre("true"));
  // Any value will do.
  EXPECT_THAT(Complete({"quantize", "--scheme", "=", "in"}), IsEmpty());
}

TEST_F(CompletionTest, FoldersAndFiles) {
  for (const char* name : {"a model/config.json", "m.gguf", "m.txt"}) {
    const std::string path = absl::StrCat(folder_, "/", name);
    if (path.find("model/") != std::string::npos) {
      ASSERT_EQ(mkdir((folder_ + "/a model").c_str(), 0700), 0);
    }
    WriteTestFile(path, "x");
  }
  EXPECT_THAT(Complete({"inspect", "--model", "=", ""}),
              UnorderedElementsAre("a model", "m.gguf"));
  EXPECT_THAT(Complete({"inspect", "--model=m"}),
              ElementsAre("--model=m.gguf"));
  EXPECT_THAT(Complete({"eval", "--text", "m"}),
              UnorderedElementsAre("m.gguf", "m.txt"));
}

}  // namespace
}  // namespace qeff
