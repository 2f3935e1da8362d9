// SPDX-License-Identifier: Apache-2.0

#include "tools/command.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <new>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class EchoCommand : public Command {
 public:
  absl::string_view name() const override { return "echo"; }
  absl::string_view summary() const override { return "Says it again."; }
  absl::string_view description() const override { return "Echoes."; }
  absl::string_view examples() const override {
    return "echo --text=a_word_that_is_long_enough_to_need_half_of_a_line "
           "--threads=1 --json=result.json";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("text", &text_, "S", "What to say.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    if (text_ == "invalid") return InvalidInputError("f: bad");
    if (text_ == "io") return absl::UnavailableError("f: write failed");
    if (text_ == "memory") throw std::bad_alloc();
    if (text_ == "usage") return UsageError("not so");
    std::fprintf(env.out, "%s\n", text_.c_str());
    return Json{{"text", text_}, {"threads", env.pool->num_threads()}};
  }

 private:
  std::string text_;
};

class PairCommand : public EchoCommand {
 public:
  absl::string_view name() const override { return "two words"; }
};

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

// Runs with `given` as stdout, or a stream in memory.
Outcome RunLine(std::vector<std::string> arguments, FILE* given = nullptr) {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(std::make_unique<EchoCommand>());
  commands.push_back(std::make_unique<PairCommand>());
  char* buffers[2] = {nullptr, nullptr};
  size_t sizes[2];
  FILE* out = open_memstream(&buffers[0], &sizes[0]);
  FILE* err = open_memstream(&buffers[1], &sizes[1]);
  Outcome outcome;
  outcome.code =
      RunCommandLine(arguments, commands, given == nullptr ? out : given, err);
  std::fclose(out);
  std::fclose(err);
  outcome.out = buffers[0];
  outcome.err = buffers[1];
  std::free(buffers[0]);
  std::free(buffers[1]);
  return outcome;
}

TEST(CommandLineTest, HelpAndVersion) {
  EXPECT_EQ(RunLine({"--version"}).out, "qeff 0.1.0\n");
  EXPECT_THAT(RunLine({"help"}).out,
              HasSubstr("echo            Says it again."));
  EXPECT_THAT(RunLine({"help", "echo"}).out, HasSubstr("--text=S"));
  EXPECT_THAT(RunLine({"help", "echo"}).out, HasSubstr("--threads=N"));
  EXPECT_EQ(RunLine({"echo", "--help"}).code, 0);
}

TEST(CommandLineTest, HelpOfACommand) {
  EXPECT_EQ(RunLine({"help", "echo"}).out,
            "qeff echo: Says it again.\n\n"
            "Usage:\n  qeff echo --text=S [--flag=value ...]\n\n"
            "Echoes.\n\n"
            "Required:\n  --text=S\n      What to say.\n\n"
            "Of every command:\n"
            "  --threads=N\n"
            "      Threads to compute with; 0 uses every processor. Default: "
            "0.\n"
            "  --json=FILE\n"
            "      Writes the result as one JSON object to FILE, replacing it; "
            "- is stdout,\n"
            "      and everything else then goes to stderr. Default: "
            "none.\n\n"
            "Examples:\n"
            "  qeff echo --text=a_word_that_is_long_enough_to_need_half_of_a_"
            "line \\\n"
            "      --threads=1 --json=result.json\n\n"
            "Exit codes: 0 success, 2 usage, 3 invalid input, 4 "
            "input/output,\n"
            "5 out of a resource, 6 numerical failure, 130 and 143 "
            "interrupted.\n");
}

TEST(CommandLineTest, NamesOfTwoWords) {
  EXPECT_EQ(RunLine({"two", "words", "--text=hi"}).out, "hi\n");
  EXPECT_THAT(RunLine({"help", "two", "words"}).out,
              HasSubstr("qeff two words"));
  EXPECT_EQ(RunLine({"help", "two", "words", "more"}).code, 2);
  EXPECT_THAT(RunLine({"two", "--text=hi"}).err,
              HasSubstr("'two': expected one of two words"));
  EXPECT_THAT(RunLine({"two", "words"}).err, HasSubstr("help two words"));
}

TEST(CommandLineTest, ExitCodes) {
  EXPECT_EQ(RunLine({}).code, 2);
  const Outcome unknown = RunLine({"ecco"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("unknown command 'ecco'; did you mean "
                                     "echo?"));
  EXPECT_EQ(RunLine({"echo", "--txt=x"}).code, 2);
  EXPECT_EQ(RunLine({"echo", "--text=usage"}).code, 2);
  EXPECT_EQ(RunLine({"echo", "--text=x", "--threads=-1"}).code, 2);
  EXPECT_EQ(RunLine({"echo", "--text=invalid"}).code, 3);
  EXPECT_EQ(RunLine({"echo", "--text=io"}).code, 4);
  EXPECT_EQ(RunLine({"echo", "--text=memory"}).code, 5);
  EXPECT_EQ(RunLine({"echo", "--text=io"}).err, "qeff echo: f: write failed\n");
}

TEST(CommandLineTest, JsonToStdoutMovesTheRestToStderr) {
  const Outcome plain = RunLine({"echo", "--text=hi", "--threads=1"});
  EXPECT_EQ(plain.code, 0);
  EXPECT_EQ(plain.out, "hi\n");
  const Outcome json = RunLine({"echo", "--text=hi", "--json=-"});
  EXPECT_EQ(json.err, "hi\n");
  EXPECT_EQ((*ParseJson(json.out, "out"))["text"], "hi");
}

TEST(CommandLineTest, JsonToFile) {
  const std::string path = ::testing::TempDir() + "/result.json";
  EXPECT_EQ(RunLine({"echo", "--text=hi", "--json", path}).code, 0);
  EXPECT_EQ((*ReadJsonFile(path, 1000))["text"], "hi");
  EXPECT_EQ(RunLine({"echo", "--text=hi", "--json=/nonexistent/x"}).code, 4);
}

TEST(CommandLineTest, JsonToAPipeOrDeviceGoesThroughIt) {
  const std::string path = ::testing::TempDir() + "/result.pipe";
  std::remove(path.c_str());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  // Both ends are open, so that the writer does not wait.
  const int fd = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(RunLine({"echo", "--text=hi", "--json=" + path}).code, 0);
  char text[200] = {};
  ASSERT_GT(read(fd, text, sizeof(text) - 1), 0);
  close(fd);
  EXPECT_EQ((*ParseJson(text, "pipe"))["text"], "hi");
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_TRUE(S_ISFIFO(info.st_mode));

  if (access("/dev/full", W_OK) != 0) return;
  const Outcome full = RunLine({"echo", "--text=hi", "--json=/dev/full"});
  EXPECT_EQ(full.code, 4);
  EXPECT_THAT(full.err, HasSubstr("/dev/full: write failed: No space left"));
  ASSERT_EQ(stat("/dev/full", &info), 0);
  EXPECT_TRUE(S_ISCHR(info.st_mode));
}

TEST(CommandLineTest, LostOutputIsAnError) {
  FILE* full = std::fopen("/dev/full", "we");
  if (full == nullptr) GTEST_SKIP() << "no /dev/full";
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"help"},
                                             {"help", "echo"},
                                             {"--version"},
                                             {"echo", "--help"},
                                             {"echo", "--text=hi"}}) {
    EXPECT_EQ(RunLine(arguments, full).code, 4) << arguments[0];
    std::clearerr(full);
  }
  // The result has a place of its own.
  const std::string path = ::testing::TempDir() + "/kept.json";
  EXPECT_EQ(RunLine({"echo", "--text=hi", "--json", path}, full).code, 4);
  EXPECT_EQ((*ReadJsonFile(path, 1000))["text"], "hi");
  std::fclose(full);
}

}  // namespace
}  // namespace qeff
