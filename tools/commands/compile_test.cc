// SPDX-License-Identifier: Apache-2.0
//
// `qeff compile` on tiny random models: the package runs as the folder does.

#include <algorithm>
#include <cstdint>
#include <cstring>
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
#include "qeff/util/json.h"
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
    const CommandOutcome packaged =
        RunQeff({"generate", "--package=" + file, "--prompt=Hello",
                 "--max_new_tokens=8"});
    ASSERT_EQ(packaged.code, 0) << packaged.err;
    EXPECT_EQ(packaged.json["tokens"], generate.json["tokens"]);
    EXPECT_EQ(packaged.json["text"], generate.json["text"]);
  }
}

// Keys of an int8 cache, calibrated: what compile writes is what eval measures.
TEST_P(CompileFamilyTest, CalibratedKeysReachThePackage) {
  const std::string model = Synth(GetParam());
  const std::string folder = MakeTestFolder();
  const std::string file = folder + "/out.qeff", text = folder + "/text";
  std::string words;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&words, "some text ", i, ". ");
  WriteTestFile(text, words);
  const std::vector<std::string> keys = {"--kv_cache=int8",
                                         "--calibration=" + text};
  const auto run = [&](std::vector<std::string> args, bool calibrated) {
    args.push_back("--text=" + text);
    args.insert(args.begin(), "eval");
    if (calibrated) args.insert(args.end(), keys.begin(), keys.end());
    const CommandOutcome outcome = RunQeff(args);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.json["nll"].get<double>();
  };
  const CommandOutcome compiled =
      RunQeff({"compile", "--model=" + model, "--output=" + file,
               "--lm_head=auto", keys[0], keys[1]});
  ASSERT_EQ(compiled.code, 0) << compiled.err;
  const double with = run({"--model=" + model}, true);
  EXPECT_EQ(run({"--package=" + file}, false), with);
  EXPECT_NE(run({"--model=" + model, "--kv_cache=int8"}, false), with);
  for (const std::string& source : {"--package=" + file, "--model=" + model}) {
    const CommandOutcome refused =
        RunQeff({"eval", source, "--text=" + text, keys[1]});
    EXPECT_EQ(refused.code, 2);
    EXPECT_THAT(refused.err, HasSubstr("--calibration"));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CompileFamilyTest,
                         ::testing::Values("tiny", "tiny-mistral", "tiny-qwen2",
                                           "tiny-qwen3", "tiny-gpt2",
                                           "tiny-mpt"));

// What becomes of a pruned model, and that the user is told why.
TEST(CompileTest, PrunedModels) {
  const std::string folder = MakeTestFolder();
  const auto prune = [&](const std::string& layers) {
    const std::string model = folder + "/" + layers, pruned = model + "pruned";
    EXPECT_EQ(RunQeff({"synth", "--shape=llama-6m", "--layers=" + layers,
                       "--output=" + model})
                  .code,
              0);
    EXPECT_EQ(RunQeff({"prune", "--model=" + model, "--output=" + pruned,
                       "--method=magnitude", "--pattern=2:4"})
                  .code,
              0);
    return pruned;
  };
  const auto compile = [](const std::string& model, const std::string& sparse) {
    CommandOutcome outcome =
        RunQeff({"compile", "--model=" + model, "--sparse=" + sparse,
                 "--output=" + model + ".qeff"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome;
  };
  const std::string one = prune("1");
  const CommandOutcome small = compile(one, "faster");
  EXPECT_THAT(small.out,
              HasSubstr("7 matrices of the blocks are dense, though"));
  EXPECT_EQ(small.json["sparse"]["dense_in_caches"], 7);
  EXPECT_EQ(small.json["sparse"]["matrices"], 0);
  const CommandOutcome smaller = compile(one, "smaller");
  EXPECT_EQ(smaller.json["sparse"]["matrices"], 7);
  EXPECT_LT(smaller.json["bytes"], small.json["bytes"]);
  // 18.9 MB of bf16, and as much of 4 bits, whose rows are too short.
  const CommandOutcome large = compile(prune("12"), "faster");
  EXPECT_THAT(large.out, HasSubstr("84 matrices of the blocks are sparse"));
  EXPECT_EQ(large.json["sparse"]["dense_in_caches"], 0);
  EXPECT_LT(large.json["sparse"]["bytes"],
            0.6 * large.json["sparse"]["dense_bytes"].get<double>());
  const std::string many = prune("48");
  EXPECT_EQ(RunQeff({"quantize", "--model=" + many, "--scheme=int4_g128",
                     "--output=" + many + "4"})
                .code,
            0);
  const CommandOutcome narrow = compile(many + "4", "faster");
  EXPECT_THAT(narrow.out, HasSubstr("336 are dense: they have 2 or 3 bits, or "
                                    "short rows"));
  EXPECT_EQ(narrow.json["sparse"]["matrices"], 0);
}

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

class PackageTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new std::string(Synth("tiny"));
    file_ = new std::string(*model_ + ".qeff");
    text_ = new std::string(MakeTestFolder() + "/text.txt");
    std::string text;
    for (int i = 0; i < 40; ++i) absl::StrAppend(&text, "Line ", i, " of it. ");
    WriteTestFile(*text_, text);
    EXPECT_EQ(
        RunQeff({"compile", "--model=" + *model_, "--output=" + *file_,
                 "--lm_head=keep", "--context_length=64", "--batch_size=2"})
            .code,
        0);
  }

  static CommandOutcome Run(const std::string& command,
                            std::vector<std::string> flags) {
    flags.insert(flags.begin(), command);
    return RunQeff(flags);
  }
  static void ExpectError(const std::string& command,
                          std::vector<std::string> flags, int code,
                          const std::string& message) {
    const CommandOutcome outcome = Run(command, std::move(flags));
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }

  static std::string* model_;
  static std::string* file_;
  static std::string* text_;
};

std::string* PackageTest::model_ = nullptr;
std::string* PackageTest::file_ = nullptr;
std::string* PackageTest::text_ = nullptr;

TEST_F(PackageTest, GeneratesSeveralAsTheFolderDoes) {
  const std::string prompts = MakeTestFolder() + "/prompts.txt";
  WriteTestFile(prompts, "Hello\nA longer prompt\n\nx\n");
  const std::vector<std::string> flags = {"--prompt_file=" + prompts,
                                          "--max_new_tokens=9",
                                          "--temperature=1", "--seed=4"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), flags.begin(), flags.end());
    const CommandOutcome outcome = Run("generate", more);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome;
  };
  const CommandOutcome folder = with({"--model=" + *model_});
  const auto tokens = [](const CommandOutcome& outcome) {
    std::vector<std::vector<int32_t>> all;
    for (const Json& result : outcome.json["results"]) {
      all.push_back(result["tokens"]);
    }
    return all;
  };
  ASSERT_EQ(tokens(folder).size(), 3u);
  EXPECT_EQ(tokens(with({"--package=" + *file_})), tokens(folder));
  EXPECT_EQ(tokens(with({"--package=" + *file_, "--batch_size=3",
                         "--prefill_chunk=2", "--context_length=40"})),
            tokens(folder));
  EXPECT_EQ(tokens(with({"--model=" + *model_, "--batch_size=1"})),
            tokens(folder));
  EXPECT_THAT(folder.out, ::testing::MatchesRegex(
                              "Prompt : Hello\nCompletion : (.|\n)*"
                              "Prompt : A longer prompt\nCompletion : (.|\n)*"
                              "Prompt : x\nCompletion : (.|\n)*\n\n"
                              "Average Prefill time(.|\n)*"));
  // As each alone.
  const CommandOutcome alone =
      Run("generate", {"--package=" + *file_, "--prompt=x",
                       "--max_new_tokens=9", "--temperature=1", "--seed=4"});
  EXPECT_EQ(alone.json["tokens"], folder.json["results"][2]["tokens"]);
}

TEST_F(PackageTest, OnePromptThatFailsDoesNotEndTheOthers) {
  const CommandOutcome outcome =
      Run("generate", {"--package=" + *file_, "--max_new_tokens=3",
                       "--prompt=" + std::string(70, 'x'), "--prompt=Hello"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("prompt 1: context full"));
  EXPECT_THAT(outcome.out, HasSubstr("Error : context full"));
  EXPECT_THAT(outcome.out, HasSubstr("Prompt : Hello\nCompletion : "));
}

TEST_F(PackageTest, EvaluatesAsTheFolderDoes) {
  const CommandOutcome folder =
      Run("eval",
          {"--model=" + *model_, "--text=" + *text_, "--context_length=64"});
  ASSERT_EQ(folder.code, 0) << folder.err;
  const CommandOutcome package = Run(
      "eval",
      {"--package=" + *file_, "--text=" + *text_, "--reference=" + *model_});
  ASSERT_EQ(package.code, 0) << package.err;
  EXPECT_EQ(package.json["nll"], folder.json["nll"]);
  EXPECT_EQ(package.json["tokens"], folder.json["tokens"]);
  EXPECT_EQ(package.json["bits_per_byte"], folder.json["bits_per_byte"]);
  EXPECT_EQ(package.json["context_length"], 64);
  EXPECT_LT(package.json["kl_mean"].get<double>(), 1e-3);
  // Flags go before what the package says.
  const CommandOutcome small =
      Run("eval", {"--package=" + *file_, "--text=" + *text_, "--kv_cache=int8",
                   "--context_length=100"});
  ASSERT_EQ(small.code, 0) << small.err;
  EXPECT_EQ(small.json["context_length"], 100);
  EXPECT_NE(small.json["nll"], folder.json["nll"]);
}

TEST_F(PackageTest, Errors) {
  const std::string text = "--text=" + *text_;
  const std::string package = "--package=" + *file_;
  ExpectError("generate", {"--prompt=x"}, 2, "--model=DIR or --package=FILE");
  ExpectError("eval", {text}, 2, "--model=DIR or --package=FILE");
  ExpectError("eval", {text, package, "--model=x"}, 2, "--package=FILE");
  ExpectError("generate", {package}, 2, "--prompt=STRING");
  ExpectError("generate", {package, "--prompt=x", "--prompt_file=y"}, 2,
              "--prompt_file=FILE");
  ExpectError("generate", {package, "--prompt=x", "--lm_head=int8"}, 2,
              "--lm_head has no meaning");
  ExpectError("eval", {text, package, "--lm_head=keep"}, 2, "--lm_head");
  ExpectError("eval", {text, package, "--executor=host"}, 2, "--executor");
  ExpectError("generate", {package + ".none", "--prompt=x"}, 3, ".qeff.none");
  ExpectError("generate", {package, "--prompt_file=/nonexistent"}, 3,
              "/nonexistent");
  ExpectError("generate", {package, "--prompt=x", "--batch_size=-1"}, 3,
              "batch_size");
  ExpectError("generate", {package, "--prompt=" + std::string(70, 'x')}, 3,
              "context full");
  const std::string damaged = *file_ + ".damaged";
  std::string bytes = ReadTestFile(*file_);
  WriteTestFile(damaged, bytes.substr(0, bytes.size() - 1));
  ExpectError("eval", {text, "--package=" + damaged}, 3, damaged);
  bytes.back() ^= 1;
  WriteTestFile(damaged, bytes);
  ExpectError("generate", {"--package=" + damaged, "--prompt=x"}, 3,
              "checksum");
}

// Makes NaN of all elements of a tensor.
void MakeNaN(const std::string& folder, const std::string& tensor) {
  const std::string path = folder + "/model.safetensors";
  std::string bytes = ReadTestFile(path);
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const Json header = Json::parse(bytes.substr(8, header_bytes));
  const Json& offsets = header[tensor]["data_offsets"];
  const auto data = bytes.begin() + 8 + static_cast<int64_t>(header_bytes);
  std::fill(data + offsets[0].get<int64_t>(), data + offsets[1].get<int64_t>(),
            '\xFF');
  WriteTestFile(path, bytes);
}

TEST(CompileTest, RefusesWhatIsNotFinite) {
  const std::string model = Synth("tiny");
  const std::string quantized = MakeTestFolder() + "/int4";
  ASSERT_EQ(RunQeff({"quantize", "--model=" + model, "--output=" + quantized,
                     "--scheme=int4_g32"})
                .code,
            0);
  const std::string folder = MakeTestFolder();
  const auto expect = [&](const std::string& from, int code,
                          const std::string& message) {
    const CommandOutcome outcome =
        RunQeff({"compile", "--model=" + from, "--output=" + folder + "/out"});
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_THAT(ListTestFolder(folder), ElementsAre());
  };
  MakeNaN(quantized, "model.layers.1.mlp.up_proj.weight_scale");
  expect(quantized, 3, "model.layers.1.mlp.up_proj.weight_scale");
  MakeNaN(model, "model.layers.1.post_attention_layernorm.weight");
  expect(model, 3, "block 1 ffn norm weight: element 0 is");
  const std::string head = Synth("tiny");
  MakeNaN(head, "lm_head.weight");
  expect(head, 6, "lm_head: row 0, column 0 is not finite");
  // Float matrices are not looked at: their logits are an error.
  const std::string floats = Synth("tiny");
  MakeNaN(floats, "model.layers.0.mlp.down_proj.weight");
  const std::string file = floats + ".qeff";
  ASSERT_EQ(RunQeff({"compile", "--model=" + floats, "--output=" + file}).code,
            0);
  for (const std::string& source : {"--model=" + floats, "--package=" + file}) {
    const CommandOutcome outcome = RunQeff({"generate", source, "--prompt=x"});
    EXPECT_EQ(outcome.code, 6) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("logit of token"));
  }
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
