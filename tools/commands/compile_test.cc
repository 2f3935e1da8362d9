// SPDX-License-Identifier: Apache-2.0
//
// `qeff compile` on tiny random models: the package runs as the folder does.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/engine.h"
#include "qeff/device/package/device_package.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/portable_tokenizer.h"
#include "tools/commands/commands.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Synth(const std::string& shape) {
  const std::string path = MakeTestFolder() + "/model";
  const CommandOutcome outcome =
      RunQeff({"synth", "--shape=" + shape, "--output=" + path});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return path;
}

// Greedy continuation of `prompt` with nothing but the package.
std::vector<int32_t> Continue(const DevicePackage& package,
                              const std::string& prompt, int count) {
  const auto pool = *CreateThreadPool(2);
  auto tables = package.ReadTokenizer();
  EXPECT_TRUE(tables.ok()) << tables.status();
  const auto tokenizer = PortableTokenizer::Create(*std::move(tables));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  auto engine =
      Engine::Create(package.model(), pool.get(), package.header().options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  std::vector<int32_t> tokens = *(*tokenizer)->Encode(prompt, true);
  std::vector<int32_t> made;
  while (static_cast<int>(made.size()) < count) {
    const auto logits = (*engine)->Append(tokens);
    EXPECT_TRUE(logits.ok()) << logits.status();
    const auto best = std::max_element(
        logits->begin(), logits->begin() + (*tokenizer)->vocab_size());
    tokens = {static_cast<int32_t>(best - logits->begin())};
    made.push_back(tokens[0]);
  }
  return made;
}

class CompileFamilyTest : public ::testing::TestWithParam<const char*> {};

TEST_P(CompileFamilyTest, RunsLikeTheFolder) {
  const std::string model = Synth(GetParam());
  const std::string quantized = MakeTestFolder() + "/int4";
  ASSERT_EQ(RunQeff({"quantize", "--model=" + model, "--output=" + quantized,
                     "--scheme=int4_g32"})
                .code,
            0);
  // What generate makes of lm_head by itself.
  for (const auto& [folder, lm_head] :
       {std::make_pair(model, "keep"), std::make_pair(quantized, "int8")}) {
    const std::string file = folder + ".qeff";
    const CommandOutcome compile =
        RunQeff({"compile", "--model=" + folder, "--output=" + file,
                 absl::StrCat("--lm_head=", lm_head), "--context_length=64"});
    ASSERT_EQ(compile.code, 0) << compile.err;
    EXPECT_EQ(compile.json["context_length"], 64);
    EXPECT_EQ(compile.json["lm_head"] == "int8", folder == quantized);
    EXPECT_THAT(compile.out, HasSubstr("wrote " + file));
    const CommandOutcome generate =
        RunQeff({"generate", "--model=" + folder, "--prompt=Hello",
                 "--max_new_tokens=8"});
    ASSERT_EQ(generate.code, 0) << generate.err;
    const auto package = DevicePackage::Open(file);
    ASSERT_TRUE(package.ok()) << package.status();
    EXPECT_TRUE(package->VerifyChecksums().ok());
    const std::vector<int32_t> expected = generate.json["tokens"];
    EXPECT_EQ(Continue(*package, "Hello", static_cast<int>(expected.size())),
              expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CompileFamilyTest,
                         ::testing::Values("tiny", "tiny-mistral", "tiny-qwen2",
                                           "tiny-qwen3", "tiny-gpt2",
                                           "tiny-mpt"));

TEST(CompileTest, FlagsReachThePackage) {
  const std::string model = Synth("tiny");
  const std::string file = MakeTestFolder() + "/out.qeff";
  const CommandOutcome outcome =
      RunQeff({"compile", "--model=" + model, "--output=" + file,
               "--target=generic", "--context_length=48", "--batch_size=3",
               "--prefill_chunk=16", "--kv_cache=int8", "--lm_head=keep"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto package = DevicePackage::Open(file);
  ASSERT_TRUE(package.ok()) << package.status();
  const PackageHeader& header = package->header();
  EXPECT_EQ(header.target, PackageTarget::kGeneric);
  EXPECT_EQ(header.options.context_length, 48);
  EXPECT_EQ(header.options.batch_size, 3);
  EXPECT_EQ(header.options.prefill_chunk, 16);
  EXPECT_EQ(header.options.kv_cache, DType::kI8);
  EXPECT_THAT(header.producer, HasSubstr("qeff "));
  EXPECT_EQ(outcome.json["bytes"], header.file_bytes);
}

TEST(CompileTest, SameBytesForAnyNumberOfThreadsAndRun) {
  const std::string model = Synth("tiny");
  const std::string folder = MakeTestFolder();
  std::vector<std::string> files;
  for (const char* threads : {"1", "2", "2"}) {
    const std::string file = absl::StrCat(folder, "/", files.size());
    ASSERT_EQ(RunQeff({"compile", "--model=" + model, "--output=" + file,
                       absl::StrCat("--threads=", threads)})
                  .code,
              0);
    files.push_back(ReadTestFile(file));
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(files[0], files[2]);
}

TEST(CompileTest, OtherTargetsAreRefusedWhereTheyDoNotRun) {
  const std::string model = Synth("tiny");
  const std::string file = MakeTestFolder() + "/out.qeff";
  const std::string other =
      HostPackageTarget() == PackageTarget::kAArch64 ? "x86-64" : "aarch64";
  ASSERT_EQ(RunQeff({"compile", "--model=" + model, "--output=" + file,
                     "--target=" + other})
                .code,
            0);
  EXPECT_THAT(std::string(DevicePackage::Open(file).status().message()),
              HasSubstr("found " + other));
}

TEST(CompileTest, Errors) {
  const std::string model = Synth("tiny");
  const std::string folder = MakeTestFolder();
  const auto expect = [&](std::vector<std::string> flags, int code,
                          const std::string& message) {
    std::vector<std::string> arguments = {"compile", "--model=" + model,
                                          "--output=" + folder + "/out"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const CommandOutcome outcome = RunQeff(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  };
  expect({"--target=sparc"}, 2, "--target");
  expect({"--context_length=-1"}, 2, "--context_length: expected 0 to");
  expect({"--batch_size=0"}, 2, "--batch_size: expected 1 to");
  expect({"--prefill_chunk=70000"}, 2, "--prefill_chunk: expected 1 to");
  expect({"--lm_head=int99"}, 2, "--lm_head");
  EXPECT_THAT(ListTestFolder(folder), ElementsAre());
  // A folder is not replaced by a file.
  const CommandOutcome outcome =
      RunQeff({"compile", "--model=" + model, "--output=" + folder});
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_EQ(RunQeff({"compile", "--model=" + folder, "--output=x"}).code, 3);
}

}  // namespace
}  // namespace qeff
