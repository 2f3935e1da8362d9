// SPDX-License-Identifier: Apache-2.0
//
// `qeff compile --target=aic100` with a shell script in the compiler's place,
// and the cache that it leaves.

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class CompileAicCommandTest : public ::testing::Test {
 protected:
  CompileAicCommandTest() {
    const CommandOutcome synth =
        RunQeff({"synth", "--shape=tiny", "--output=" + model_});
    EXPECT_EQ(synth.code, 0) << synth.err;
    fs::create_directories(sdk_ + "/exec");
    fs::create_directories(sdk_ + "/versions");
    WriteTestFile(sdk_ + "/versions/apps.xml",
                  "<base_version>1.22.1</base_version>");
    UseCompiler(
        "echo compiling\n"
        "for a; do case $a in -aic-binary-dir=*) out=${a#*=};; esac; "
        "done\n"
        "mkdir \"$out\"\necho program > \"$out/programqpc.bin\"\n");
  }

  void UseCompiler(const std::string& script) {
    const std::string path = sdk_ + "/exec/qaic-compile";
    WriteTestFile(path, "#!/bin/sh\n" + script);
    ASSERT_EQ(chmod(path.c_str(), 0755), 0);
  }

  CommandOutcome Compile(std::vector<std::string> more,
                         bool with_compiler = true) {
    std::vector<std::string> arguments = {"compile", "--target=aic100",
                                          "--model=" + model_,
                                          "--output=" + cache_};
    if (with_compiler) {
      arguments.push_back("--compiler=" + sdk_ + "/exec/qaic-compile");
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunQeff(arguments);
  }
  CommandOutcome Cache(const std::string& action,
                       const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"cache", action, "--cache=" + cache_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunQeff(arguments);
  }

  const std::string folder_ = MakeTestFolder();
  const std::string model_ = folder_ + "/model";
  const std::string sdk_ = folder_ + "/sdk";
  const std::string cache_ = folder_ + "/cache";
};

TEST_F(CompileAicCommandTest, ExportsAndCompilesOnce) {
  const CommandOutcome first =
      Compile({"--mxfp6_matmul", "--mxint8_kv_cache", "--ctx_len=64"});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("compiling\n"));
  EXPECT_EQ(first.json["compiled"], true);
  EXPECT_EQ(first.json["from_cache"], false);
  const std::string bundle = first.json["folder"], onnx = first.json["onnx"];
  EXPECT_EQ(fs::path(bundle).parent_path(), fs::path(onnx).parent_path());
  EXPECT_THAT(onnx, HasSubstr("/LlamaForCausalLM/LlamaForCausalLM-"));
  EXPECT_THAT(ListTestFolder(bundle),
              ElementsAre("custom_io.yaml", "hashed_compile_params.json",
                          "qaic-compile.sh", "qconfig.json", "qeff_entry.json",
                          "qpc", "specializations.json"));
  EXPECT_THAT(ReadTestFile(bundle + "/custom_io.yaml"),
              HasSubstr("past_key.1_RetainedState\n   Precision: mxint8"));
  EXPECT_THAT(ReadTestFile(bundle + "/qaic-compile.sh"),
              HasSubstr("'-mxfp6-matmul'"));
  EXPECT_THAT(ReadTestFile(bundle + "/qconfig.json"), HasSubstr("1.22.1"));
  EXPECT_THAT(ReadTestFile(bundle + "/specializations.json"),
              HasSubstr("\"ctx_len\":\"64\""));
  const CommandOutcome second =
      Compile({"--mxfp6_matmul", "--mxint8_kv_cache", "--ctx_len=64"});
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(second.json["from_cache"], true);
  EXPECT_EQ(second.json["folder"], bundle);
  EXPECT_THAT(second.out, Not(HasSubstr("compiling\n")));
  // No path is in the hash.
  fs::rename(cache_, folder_ + "/moved");
  fs::rename(model_, folder_ + "/model2");
  const CommandOutcome moved = RunQeff(
      {"compile", "--target=aic100", "--model=" + folder_ + "/model2",
       "--output=" + folder_ + "/moved", "--mxfp6_matmul", "--mxint8_kv_cache",
       "--ctx_len=64", "--compiler=" + sdk_ + "/exec/qaic-compile"});
  ASSERT_EQ(moved.code, 0) << moved.err;
  EXPECT_EQ(moved.json["from_cache"], true);
  fs::rename(folder_ + "/moved", cache_);
  fs::rename(folder_ + "/model2", model_);
  // Another compilation of the same graph.
  const CommandOutcome third = Compile({"--ctx_len=64"});
  ASSERT_EQ(third.code, 0) << third.err;
  EXPECT_EQ(third.json["onnx"], onnx);
  EXPECT_NE(third.json["folder"], bundle);
}

// One weight: names and beginnings of all tensors stay.
TEST_F(CompileAicCommandTest, OtherWeightsAreAnotherExport) {
  const CommandOutcome first = Compile({"--artifact_only"});
  ASSERT_EQ(first.code, 0) << first.err;
  {
    std::fstream file(model_ + "/model.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x11');
  }
  const CommandOutcome second = Compile({"--artifact_only"});
  ASSERT_EQ(second.code, 0) << second.err;
  EXPECT_NE(second.json["onnx"], first.json["onnx"]);
}

TEST_F(CompileAicCommandTest, EveryKindOfGraphFitsItsShapes) {
  std::set<std::string> graphs;
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{
           {"--batch_size=2"},
           {"--full_batch_size=4"},
           {"--num_speculative_tokens=0,3"},
           {"--comp_ctx_lengths_decode=1024"},
           {"--num_devices=2", "--mdp_num_partitions=2"}}) {
    const CommandOutcome outcome = Compile(flags);
    ASSERT_EQ(outcome.code, 0) << flags[0] << ": " << outcome.err;
    graphs.insert(outcome.json["onnx"].get<std::string>());
    if (flags.size() == 1) continue;
    const auto file = ReadJsonFile(
        outcome.json["folder"].get<std::string>() + "/mdp_disagg_2d_2p.json",
        1 << 24);
    ASSERT_TRUE(file.ok()) << file.status();
    // All of a block, and what the compiler makes of a call.
    const std::vector<std::string> nodes = (*file)["partitions"][1]["nodeList"];
    EXPECT_THAT(nodes, Contains(HasSubstr("/blocks.1/")));
    EXPECT_THAT(nodes, Not(Contains(HasSubstr("/blocks.0/"))));
    EXPECT_THAT(nodes, Contains(testing::EndsWith("/CtxScatter/n0")));
  }
  EXPECT_EQ(graphs.size(), 4u);  // the first and the last are one
}

TEST_F(CompileAicCommandTest, WithoutTheSdkMakesABundle) {
  const CommandOutcome outcome = Compile({}, /*with_compiler=*/false);
  if (fs::exists("/opt/qti-aic/exec/qaic-compile")) GTEST_SKIP() << "SDK";
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.json["compiled"], false);
  EXPECT_THAT(outcome.out, HasSubstr("the SDK is not installed here"));
  // On a machine that has it.
  EXPECT_EQ(system(absl::StrCat("COMPILER=", sdk_, "/exec/qaic-compile ",
                                outcome.json["folder"].get<std::string>(),
                                "/qaic-compile.sh > /dev/null")
                       .c_str()),
            0);
}

TEST_F(CompileAicCommandTest, OldSdksAreGivenTheirForm) {
  const CommandOutcome outcome =
      Compile({"--artifact_only", "--sdk_version=1.20.2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(ReadTestFile(outcome.json["folder"].get<std::string>() +
                           "/specializations.json"),
              Not(HasSubstr("symbols")));
}

TEST_F(CompileAicCommandTest, NamesWhatIsWrong) {
  const auto expect = [this](std::vector<std::string> flags, int code,
                             const std::string& message) {
    const CommandOutcome outcome = Compile(flags);
    EXPECT_EQ(outcome.code, code) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  };
  expect({"--kv_cache=int8"}, 2, "--kv_cache does not go with --target=aic100");
  expect({"--prefill_seq_len=200"}, 2, "--prefill_seq_len: expected 1 to 128");
  expect({"--num_speculative_tokens=x"}, 2, "--num_speculative_tokens");
  expect({"--compiler_option=moss=1"}, 2, "did you mean mos?");
  expect({"--sdk_version=new"}, 2, "--sdk_version");
  expect({"--num_devices=2", "--mdp_num_partitions=3"}, 3, "expected 1 to 2");
  expect({"--ctx_len=1000000"}, 3, "ctx_len: the model has positions");
  UseCompiler("echo bad node; exit 9");
  expect({}, 3, "exit code 9");
  UseCompiler("sleep 100");
  expect({"--compile_timeout=0.2"}, 5, "ended after 200ms");
  fs::remove(sdk_ + "/exec/qaic-compile");
  expect({}, 3, "qaic-compile: find the compiler failed");
  const CommandOutcome cpu =
      RunQeff({"compile", "--model=" + model_, "--output=" + folder_ + "/x",
               "--target=generic", "--num_cores=3"});
  EXPECT_EQ(cpu.code, 2);
  EXPECT_THAT(cpu.err, HasSubstr("--num_cores does not go with"));
  EXPECT_THAT(RunQeff({"compile", "--model=" + model_}).err,
              HasSubstr("--output=FILE is required"));
}

// Ctrl-C, which the compiler does not get: it is in a group of its own.
TEST_F(CompileAicCommandTest, AnInterruptEndsTheCompiler) {
  UseCompiler("printf $$ > ../../pid; kill -INT $PPID; exec sleep 1000");
  const CommandOutcome outcome = Compile({});
  EXPECT_EQ(outcome.code, 130);
  EXPECT_THAT(outcome.err, HasSubstr("interrupted"));
  const std::string pid = ReadTestFile(cache_ + "/LlamaForCausalLM/pid");
  EXPECT_NE(system(("kill -0 " + pid + " 2> /dev/null").c_str()), 0);
  EXPECT_EQ(Cache("gc").json["removed"].size(), 1u);
}

TEST_F(CompileAicCommandTest, TheCacheIsListedVerifiedAndCleared) {
  EXPECT_EQ(Cache("ls").json["entries"].size(), 0u);
  const CommandOutcome compiled = Compile({});
  ASSERT_EQ(compiled.code, 0) << compiled.err;
  UseCompiler("exit 1");
  EXPECT_EQ(Compile({"--num_cores=8"}).code, 3);
  const CommandOutcome listed = Cache("ls");
  ASSERT_EQ(listed.json["entries"].size(), 3u);
  std::multiset<std::string> states;
  for (const Json& entry : listed.json["entries"]) {
    states.insert(entry["state"].get<std::string>());
  }
  EXPECT_THAT(states, ElementsAre("complete", "complete", "unfinished"));
  EXPECT_EQ(Cache("verify").json["good"], 2);

  const CommandOutcome cleared = Cache("gc");
  ASSERT_EQ(cleared.code, 0) << cleared.err;
  EXPECT_EQ(cleared.json["removed"].size(), 1u);
  EXPECT_EQ(Cache("ls").json["entries"].size(), 2u);

  // Damage that sizes and times do not show is found, and mended by the next
  // use.
  const std::string program =
      compiled.json["folder"].get<std::string>() + "/qpc/programqpc.bin";
  const auto time = fs::last_write_time(program);
  WriteTestFile(program, "PROGRAM\n");
  fs::last_write_time(program, time);
  EXPECT_EQ(Compile({}).json["from_cache"], true);
  const CommandOutcome verified = Cache("verify");
  EXPECT_EQ(verified.code, 3);
  EXPECT_THAT(verified.out, HasSubstr("programqpc.bin: from byte 0 on"));
  UseCompiler("mkdir qpc; echo program > qpc/programqpc.bin");
  const CommandOutcome again = Compile({});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.json["from_cache"], false);
  EXPECT_EQ(ReadTestFile(program), "program\n");

  EXPECT_EQ(Cache("gc", {"--older_than=0.1"}).json["removed"].size(), 0u);
  EXPECT_EQ(Cache("gc", {"--older_than=0"}).json["removed"].size(), 1u);
  EXPECT_EQ(Cache("ls").json["entries"].size(), 0u);
  EXPECT_EQ(Cache("gc", {"--older_than=-1"}).code, 2);
}

// Every file of both entries, damaged in every way: `cache verify` names it,
// and compile makes the entry again, whether that was run or not.
TEST_F(CompileAicCommandTest, DamagedEntriesAreNamedAndMadeAgain) {
  const CommandOutcome compiled = Compile({});
  ASSERT_EQ(compiled.code, 0) << compiled.err;
  const fs::path bundle = compiled.json["folder"].get<std::string>();
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(cache_)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  ASSERT_GT(files.size(), 9u);
  const auto cut = [](const std::string& path) {
    fs::resize_file(path, fs::file_size(path) / 2);
  };
  const auto change = [](const std::string& path) {
    const auto later = fs::last_write_time(path) + std::chrono::seconds(5);
    std::string content = ReadTestFile(path);
    content[content.size() / 2] ^= 4;
    WriteTestFile(path, content);
    fs::last_write_time(path, later);
  };
  const auto make_folder = [](const std::string& path) {
    fs::remove(path);
    fs::create_directory(path);
  };
  const auto add = [](const std::string& path) {
    WriteTestFile(path + ".other", "");
  };
  const auto remove = [](const std::string& path) { fs::remove(path); };
  const std::function<void(const std::string&)> damages[] = {
      cut, change, make_folder, add, remove};
  bool verify = false;
  for (const std::string& path : files) {
    SCOPED_TRACE(path);
    const bool is_marker = fs::path(path).filename() == "qeff_entry.json";
    const std::string original = ReadTestFile(path);
    for (size_t i = 0; i < std::size(damages); ++i) {
      SCOPED_TRACE(i);
      // Of a marker without a file see below; of its bits, cache_entry_test.
      if (is_marker && (i == 1 || i == 4)) continue;
      damages[i](path);
      verify = !verify;
      if (verify) {
        const CommandOutcome verified = Cache("verify");
        EXPECT_EQ(verified.code, 3);
        EXPECT_THAT(verified.out, HasSubstr("damaged  "));
        EXPECT_THAT(verified.out,
                    HasSubstr(fs::path(path).lexically_relative(cache_)));
      }
      const CommandOutcome again = Compile({});
      ASSERT_EQ(again.code, 0) << again.err;
      EXPECT_EQ(Cache("verify").json["good"], 2);
      EXPECT_FALSE(fs::exists(path + ".other"));
      EXPECT_TRUE(is_marker || ReadTestFile(path) == original);
    }
  }
  // Without a marker a folder may be anybody's.
  fs::remove(bundle / "qeff_entry.json");
  EXPECT_THAT(Cache("verify").out, HasSubstr("foreign  " + bundle.string()));
  const CommandOutcome refused = Compile({});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.err, HasSubstr(bundle.string() + ": expected an entry"));
  fs::remove_all(bundle);
  EXPECT_EQ(Compile({}).json["from_cache"], false);
}

// The second one is told, and finds it when the first is done.
TEST_F(CompileAicCommandTest, OneProcessMakesAnEntry) {
  ASSERT_EQ(Compile({"--artifact_only"}).code, 0);  // the export, at least
  const std::string go = folder_ + "/go", started = folder_ + "/started";
  UseCompiler(absl::StrCat(": > ", started, "\nfor i in $(seq 600); do [ -e ",
                           go,
                           " ] && break; sleep 0.1; done\n"
                           "mkdir qpc; echo program > qpc/programqpc.bin\n"));
  const pid_t child = fork();
  if (child == 0) _exit(Compile({"--num_cores=8"}).code);
  for (int i = 0; i < 600 && !fs::exists(started); ++i) {
    absl::SleepFor(absl::Milliseconds(100));
  }
  const CommandOutcome second = Compile({"--num_cores=8"});
  EXPECT_EQ(second.code, 4);
  EXPECT_THAT(second.err, HasSubstr("another process is making this entry"));
  EXPECT_EQ(Cache("gc").json["removed"].size(), 0u);
  WriteTestFile(go, "");
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Compile({"--num_cores=8"}).json["from_cache"], true);
}

}  // namespace
}  // namespace qeff
