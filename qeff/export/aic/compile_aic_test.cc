// SPDX-License-Identifier: Apache-2.0
//
// With shell scripts in the compiler's place.

#include "qeff/export/aic/compile_aic.h"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/aic/cache_entry.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

// Records how it was called, and makes what it was asked for.
constexpr char kRecorder[] = R"(
echo "compiling $PWD"
echo "to stderr" >&2
printf '%s\n' "$@" > arguments
for argument; do
  case "$argument" in
    -m=*) cat "${argument#-m=}" > /dev/null ;;
    -network-specialization-config=*) cat "${argument#*=}" > /dev/null ;;
    -custom-IO-list-file=*) cat "${argument#*=}" > /dev/null ;;
    -aic-binary-dir=*) mkdir "${argument#*=}"
      echo program > "${argument#*=}/programqpc.bin" ;;
  esac
done
)";

class CompileAicTest : public ::testing::Test {
 protected:
  CompileAicTest() {
    std::filesystem::create_directory(folder_ + "/export");
    graph_.onnx_path = folder_ + "/export/Llama.onnx";
    WriteTestFile(graph_.onnx_path, "graph");
    graph_.identity = "0123";
    graph_.layers = 1;
    graph_.inputs = {"input_ids", "position_ids", "past_key.0"};
    graph_.outputs = {"logits", "past_key.0_RetainedState"};
    graph_.kv_inputs = {"past_key.0"};
    options_.subprocess.on_output = [this](absl::string_view text) {
      absl::StrAppend(&output_, text);
    };
    UseCompiler(kRecorder);
  }

  void UseCompiler(const std::string& script) {
    options_.compiler = folder_ + "/compiler";
    WriteTestFile(options_.compiler, "#!/bin/sh\nset -e\n" + script);
    ASSERT_EQ(chmod(options_.compiler.c_str(), 0755), 0);
  }

  // Compiles, which must fail and leave the entry unfinished.
  absl::Status Fail() {
    const auto result = CompileAic(graph_, options_);
    EXPECT_FALSE(result.ok());
    const auto bundle = MakeAicBundle(graph_, options_.settings);
    EXPECT_EQ(LookAtEntry(folder_ + "/export/qpc-" + bundle->hash),
              EntryState::kUnfinished);
    return result.status();
  }

  const std::string folder_ = MakeTestFolder();
  AicGraph graph_;
  AicCompileOptions options_;
  std::string output_;
};

TEST_F(CompileAicTest, RunsTheCompilerOnce) {
  const auto first = CompileAic(graph_, options_);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->compiled);
  EXPECT_FALSE(first->from_cache);
  EXPECT_EQ(ReadTestFile(first->folder + "/qpc/programqpc.bin"), "program\n");
  const auto bundle = MakeAicBundle(graph_, options_.settings);
  EXPECT_THAT(output_, HasSubstr("/export/qpc-" + bundle->hash + "\n"));
  EXPECT_THAT(output_, HasSubstr("to stderr"));
  EXPECT_EQ(ReadTestFile(first->folder + "/arguments"),
            absl::StrJoin(bundle->arguments, "\n") + "\n");
  output_.clear();
  const auto second = CompileAic(graph_, options_);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->compiled && second->from_cache);
  EXPECT_EQ(second->folder, first->folder);
  EXPECT_EQ(output_, "");
}

TEST_F(CompileAicTest, MakesADamagedProgramAgain) {
  const auto first = CompileAic(graph_, options_);
  ASSERT_TRUE(first.ok()) << first.status();
  WriteTestFile(first->folder + "/qpc/programqpc.bin", "progr");
  const auto second = CompileAic(graph_, options_);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_FALSE(second->from_cache);
  EXPECT_TRUE(VerifyEntry(second->folder).ok());
}

TEST_F(CompileAicTest, SaysHowTheCompilerFailed) {
  UseCompiler("echo 'unsupported node Foo' >&2; exit 3");
  const absl::Status status = Fail();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("exit code 3"));
  EXPECT_THAT(status.message(), HasSubstr("unsupported node Foo"));
  UseCompiler(kRecorder);
  EXPECT_TRUE(CompileAic(graph_, options_).ok());
}

TEST_F(CompileAicTest, SaysWhatAnOldCompilerWants) {
  UseCompiler(
      "echo '[json.exception.type_error.302] type must be string, but is "
      "object'; exit 255");
  EXPECT_THAT(Fail().message(), HasSubstr("older than SDK 1.22"));
}

TEST_F(CompileAicTest, AProgramMustHaveBeenWritten) {
  UseCompiler("exit 0");
  EXPECT_THAT(Fail().message(), HasSubstr("programqpc.bin, found nothing"));
  UseCompiler("mkdir qpc; : > qpc/programqpc.bin");
  EXPECT_THAT(Fail().message(), HasSubstr("programqpc.bin, found nothing"));
}

TEST_F(CompileAicTest, EndsACompilerThatHangs) {
  UseCompiler("mkdir qpc; echo half > qpc/programqpc.bin; sleep 1000");
  options_.subprocess.timeout = absl::Milliseconds(300);
  EXPECT_EQ(Fail().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(CompileAicTest, StopsWhenItIsTold) {
  UseCompiler("mkdir qpc; echo half > qpc/programqpc.bin; sleep 1000");
  options_.subprocess.check = [this] {
    return std::filesystem::exists(folder_ + "/stop")
               ? absl::CancelledError("interrupted")
               : (WriteTestFile(folder_ + "/stop", ""), absl::OkStatus());
  };
  EXPECT_EQ(Fail().code(), absl::StatusCode::kCancelled);
}

TEST_F(CompileAicTest, SaysWhatIsMissing) {
  options_.compiler = folder_ + "/none";
  EXPECT_EQ(Fail().code(), absl::StatusCode::kNotFound);
  graph_.onnx_path = folder_ + "/none.onnx";
  const auto result = CompileAic(graph_, options_);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(result.status().message(), HasSubstr("none.onnx"));
}

// The bundle alone, and then its script on another machine: the folder has
// moved, and its command is the one that would have been run here.
TEST_F(CompileAicTest, TheBundleCompilesElsewhere) {
  options_.run_compiler = false;
  const auto result = CompileAic(graph_, options_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->compiled);
  EXPECT_TRUE(CompileAic(graph_, options_)->from_cache);
  std::filesystem::rename(folder_ + "/export", folder_ + "/mo ved");
  const std::string moved =
      folder_ + "/mo ved/" +
      std::filesystem::path(result->folder).filename().string();
  ASSERT_EQ(system(absl::StrCat("COMPILER='", options_.compiler, "' '", moved,
                                "/qaic-compile.sh' > /dev/null 2>&1")
                       .c_str()),
            0);
  const auto bundle = MakeAicBundle(graph_, options_.settings);
  EXPECT_EQ(ReadTestFile(moved + "/arguments"),
            absl::StrJoin(bundle->arguments, "\n") + "\n");
  EXPECT_EQ(ReadTestFile(moved + "/qpc/programqpc.bin"), "program\n");
}

// The same folder, then with the program.
TEST_F(CompileAicTest, ABundleIsNoProgram) {
  options_.run_compiler = false;
  const auto bundle = CompileAic(graph_, options_);
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  options_.run_compiler = true;
  const auto compiled = CompileAic(graph_, options_);
  ASSERT_TRUE(compiled.ok()) << compiled.status();
  EXPECT_EQ(compiled->folder, bundle->folder);
  EXPECT_TRUE(compiled->compiled && !compiled->from_cache);
}

}  // namespace
}  // namespace qeff
