// SPDX-License-Identifier: Apache-2.0
//
// The commands on packages of random models. Text and real tokenizers:
// //tools/commands:compile_test.

#include "qeff/device/device_commands.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/reference_model.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

Outcome RunDevice(const std::vector<std::string>& arguments) {
  char* buffers[2] = {nullptr, nullptr};
  size_t sizes[2];
  FILE* out = open_memstream(&buffers[0], &sizes[0]);
  FILE* err = open_memstream(&buffers[1], &sizes[1]);
  Outcome outcome;
  outcome.code = RunDeviceCommand(arguments, out, err);
  std::fclose(out);
  std::fclose(err);
  outcome.out = std::string(buffers[0], sizes[0]);
  outcome.err = std::string(buffers[1], sizes[1]);
  std::free(buffers[0]);
  std::free(buffers[1]);
  return outcome;
}

class DeviceCommandsTest : public ::testing::Test {
 protected:
  DeviceCommandsTest()
      : bytes_(PackageBytes(*RandomModel(SmallSpec(), 1), nullptr)) {
    WriteFile(path_, bytes_);
  }
  ~DeviceCommandsTest() override { std::remove(path_.c_str()); }

  const std::string path_ = testing::TempDir() + "/commands.qeff";
  const std::string bytes_;
};

TEST_F(DeviceCommandsTest, RunsTokens) {
  const Outcome one = RunDevice(
      {"run", path_, "--tokens=1,2,3", "--max_new_tokens=5", "--threads=1"});
  ASSERT_EQ(one.code, kExitOk) << one.err;
  const std::vector<std::string> ids = absl::StrSplit(one.out, ',');
  EXPECT_EQ(ids.size(), 5u);
  EXPECT_EQ(RunDevice({"run", path_, "--tokens=1,2,3", "--max_new_tokens=5",
                       "--threads=3", "--prefill_chunk=2"})
                .out,
            one.out);
}

TEST_F(DeviceCommandsTest, RunsSeveralPrompts) {
  TransformerSpec spec = SmallSpec();
  spec.vocab_size = 260;
  const TokenizerTables tables = ByteTables();
  WriteFile(path_, PackageBytes(*RandomModel(spec, 1), &tables));
  const auto run = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", path_, "--max_new_tokens=6"});
    return RunDevice(flags);
  };
  std::string expected;
  for (const std::string prompt : {"Hello", "a", "bcd"}) {
    const Outcome alone = run({"--prompt=" + prompt});
    ASSERT_EQ(alone.code, kExitOk) << alone.err;
    expected += alone.out.substr(0, alone.out.find("\n\nAverage")) + "\n";
  }
  for (const char* slots : {"--batch_size=1", "--batch_size=2"}) {
    const Outcome outcome =
        run({"--prompt=Hello", "--prompt=a", "--prompt=bcd", slots});
    ASSERT_EQ(outcome.code, kExitOk) << outcome.err;
    EXPECT_EQ(outcome.out.substr(0, outcome.out.find("\nAverage")), expected);
  }
  // <s> and 48 characters do not fit the context of 48.
  const Outcome partly =
      run({"--prompt=" + std::string(48, 'x'), "--prompt=a"});
  EXPECT_EQ(partly.code, kExitInvalidInput);
  EXPECT_THAT(partly.err, HasSubstr("prompt 1: context full"));
  EXPECT_EQ(partly.out.front(), 'a');
}

TEST_F(DeviceCommandsTest, BenchInfoVerify) {
  const Outcome bench =
      RunDevice({"bench", path_, "--prompt_tokens=8", "--max_new_tokens=4"});
  EXPECT_EQ(bench.code, kExitOk) << bench.err;
  EXPECT_THAT(bench.out, HasSubstr("decode "));
  const Outcome info = RunDevice({"info", path_});
  EXPECT_EQ(info.code, kExitOk) << info.err;
  EXPECT_THAT(info.out, HasSubstr("target: generic\n"));
  EXPECT_THAT(info.out, HasSubstr("context_length: 48\n"));
  EXPECT_THAT(info.out, HasSubstr("block 1 down weight: [24, 40] F32, 3840"));
  EXPECT_EQ(RunDevice({"verify", path_}).code, kExitOk);
  std::string broken = bytes_;
  broken.back() = static_cast<char>(broken.back() ^ 1);
  WriteFile(path_, broken);
  const Outcome verify = RunDevice({"verify", path_});
  EXPECT_EQ(verify.code, kExitInvalidInput);
  EXPECT_THAT(verify.err, HasSubstr("lm_head weight: checksum"));
  EXPECT_EQ(RunDevice({"info", path_}).code, kExitOk);
}

TEST_F(DeviceCommandsTest, Errors) {
  EXPECT_EQ(RunDevice({}).code, kExitUsage);
  EXPECT_EQ(RunDevice({"run"}).code, kExitUsage);
  EXPECT_EQ(RunDevice({"walk", path_}).code, kExitUsage);
  EXPECT_EQ(RunDevice({"info", path_, "x"}).code, kExitUsage);
  const auto expect = [&](std::vector<std::string> arguments,
                          const std::string& message,
                          int code = kExitInvalidInput) {
    const Outcome outcome = RunDevice(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  };
  expect({"info", path_, "--x=1"}, "--x: unknown flag", kExitUsage);
  expect({"run", path_}, "--prompt or --tokens");
  expect({"run", path_, "--tokens=1,x"}, "found \"x\"");
  expect({"run", path_, "--tokens=99"}, "99");
  expect({"run", path_, "--prompt=Hello"}, "no tokenizer");
  expect({"run", path_, "--prompt=a", "--prompt=b", "--tokens=1"},
         "--prompt or --tokens");
  expect({"run", path_, "--tokens=1", "--batch_size=0"}, "batch_size");
  expect({"run", path_, "--tokens=1", "--seed=1", "--seed=2"},
         "--seed is given twice", kExitUsage);
  expect({"run", path_, "--tokens=1", "--threads=0"}, "--threads");
  expect({"run", path_, "--tokens=1", "--top_k=x"}, "--top_k", kExitUsage);
  expect({"run", path_, "--tokens=1", "--context_length=0"}, "context_length");
  expect({"bench", path_, "--prompt_tokens=48"}, "context length");
  expect({"info", path_ + ".none"}, ".none");
}

}  // namespace
}  // namespace qeff
