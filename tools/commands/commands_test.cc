// SPDX-License-Identifier: Apache-2.0
//
// Every command on tiny random models, and on wrong input.

#include "tools/commands/commands.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/io/safetensors.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A new folder name below a new folder.
std::string NewPath() { return MakeTestFolder() + "/out"; }

std::string Synth(const std::string& shape,
                  std::vector<std::string> flags = {}) {
  const std::string path = NewPath();
  std::vector<std::string> arguments = {"synth", "--shape=" + shape,
                                        "--output=" + path};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const CommandOutcome outcome = RunQeff(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return path;
}

std::string TextFile() {
  const std::string path = MakeTestFolder() + "/text.txt";
  std::string text;
  for (int i = 0; i < 40; ++i) {
    absl::StrAppend(&text, "Line ", i, " of a text that says little. ");
  }
  WriteTestFile(path, text);
  return path;
}

std::string HelpOf(const std::vector<std::string>& arguments) {
  char* text = nullptr;
  size_t size = 0;
  FILE* out = open_memstream(&text, &size);
  EXPECT_EQ(RunCommandLine(arguments, AllCommands(), out, stderr), 0);
  std::fclose(out);
  const std::string help(text, size);
  std::free(text);
  return help;
}

class EveryFamilyTest : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryFamilyTest, MainJob) {
  const std::string model = Synth(GetParam(), {"--dtype=f32"});
  const std::string text = TextFile();

  const CommandOutcome inspect = RunQeff({"inspect", "--model=" + model});
  ASSERT_EQ(inspect.code, 0) << inspect.err;
  EXPECT_NEAR(inspect.json["bits_per_weight"].get<double>(), 32.0, 1e-9);
  EXPECT_GT(inspect.json["tensors"].size(), 10u);

  const CommandOutcome generate = RunQeff(
      {"generate", "--model=" + model, "--prompt=Hello", "--max_new_tokens=8"});
  ASSERT_EQ(generate.code, 0) << generate.err;
  EXPECT_THAT(generate.out, StartsWith("Hello"));
  EXPECT_THAT(generate.out, HasSubstr("Average Prefill time a.k.a TTFT is="));
  EXPECT_LE(generate.json["tokens"].size(), 8u);

  const CommandOutcome before =
      RunQeff({"eval", "--model=" + model, "--text=" + text});
  ASSERT_EQ(before.code, 0) << before.err;

  const std::string quantized = NewPath();
  const CommandOutcome quantize =
      RunQeff({"quantize", "--model=" + model, "--output=" + quantized,
               "--scheme=int8"});
  ASSERT_EQ(quantize.code, 0) << quantize.err;
  const CommandOutcome after =
      RunQeff({"eval", "--model=" + quantized, "--text=" + text,
               "--reference=" + model});
  ASSERT_EQ(after.code, 0) << after.err;
  // 8 bits leave the predictions of any sane model nearly alone.
  EXPECT_GT(after.json["kl_mean"].get<double>(), 0.0);
  EXPECT_LT(after.json["kl_mean"].get<double>(), 0.01);
  EXPECT_NEAR(after.json["nll"].get<double>(), before.json["nll"].get<double>(),
              0.05);
}

INSTANTIATE_TEST_SUITE_P(Families, EveryFamilyTest,
                         ::testing::Values("tiny", "tiny-mistral", "tiny-qwen2",
                                           "tiny-qwen3", "tiny-gpt2",
                                           "tiny-mpt"));

class CommandsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new std::string(Synth("tiny", {"--dtype=f32"}));
    text_ = new std::string(TextFile());
  }

  // Runs and expects exit code `code` and `message` on stderr.
  static void ExpectError(std::vector<std::string> arguments, int code,
                          const std::string& message) {
    const CommandOutcome outcome = RunQeff(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
  }

  // A copy of the tiny model with `file` replaced.
  static std::string WithFile(const std::string& file,
                              const std::string& content) {
    const std::string folder = MakeTestFolder();
    for (const char* name : {"config.json", "model.safetensors",
                             "tokenizer.json", "tokenizer_config.json"}) {
      WriteTestFile(folder + "/" + name, ReadTestFile(*model_ + "/" + name));
    }
    WriteTestFile(folder + "/" + file, content);
    return folder;
  }

  static std::string* model_;
  static std::string* text_;
};
std::string* CommandsTest::model_;
std::string* CommandsTest::text_;

TEST_F(CommandsTest, HelpNamesEveryFlag) {
  for (const auto& command : AllCommands()) {
    std::vector<std::string> arguments = {"help"};
    for (absl::string_view word : absl::StrSplit(command->name(), ' ')) {
      arguments.emplace_back(word);
    }
    const std::string help = HelpOf(arguments);
    for (const FlagInfo& flag : FlagsOf(command.get())) {
      EXPECT_THAT(help, HasSubstr("\n  --" + flag.name)) << command->name();
    }
    EXPECT_THAT(help, HasSubstr("\nExit codes: 0 success")) << command->name();
    for (absl::string_view line : absl::StrSplit(help, '\n')) {
      EXPECT_LE(line.size(), 80u) << line;
    }
  }
}

// An example's words; those in quotes are one.
std::vector<std::string> WordsOf(absl::string_view line) {
  std::vector<std::string> words(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ' ' && !quoted) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

TEST_F(CommandsTest, ExamplesOfTheHelpCanBeParsed) {
  for (const auto& command : AllCommands()) {
    const std::vector<std::string> lines =
        absl::StrSplit(command->examples(), '\n', absl::SkipEmpty());
    EXPECT_FALSE(lines.empty()) << command->name();
    for (const std::string& line : lines) {
      EXPECT_THAT(line, StartsWith(std::string(command->name())));
      const absl::Status status = CheckArguments(WordsOf(line), AllCommands());
      EXPECT_TRUE(status.ok()) << line << ": " << status;
    }
  }
}

TEST_F(CommandsTest, TokenizeBothWays) {
  const CommandOutcome ids =
      RunQeff({"tokenize", "--model=" + *model_, "--text=Hi"});
  EXPECT_EQ(ids.out, absl::StrCat("1,", 3 + 'H', ",", 3 + 'i', "\n"));
  const CommandOutcome plain = RunQeff({"tokenize", "--model=" + *model_,
                                        "--text=Hi", "--noadd_special_tokens"});
  EXPECT_EQ(plain.json["count"], 2);
  const CommandOutcome text =
      RunQeff({"tokenize", "--model=" + *model_, "--decode",
               absl::StrCat("--text=", 3 + 'H', ",", 3 + 'i')});
  EXPECT_EQ(text.out, "Hi\n");
  ExpectError({"tokenize", "--model=" + *model_}, 2, "--text and --file");
  ExpectError({"tokenize", "--model=" + *model_, "--text=7,x", "--decode"}, 3,
              "found 'x'");
  ExpectError({"tokenize", "--model=" + *model_, "--text=70000", "--decode"}, 3,
              "70000");
}

TEST_F(CommandsTest, LogitsAgreeWithTheSameModelInBlocks) {
  const std::string path = MakeTestFolder() + "/l.safetensors";
  const CommandOutcome outcome = RunQeff(
      {"logits", "--model=" + *model_, "--tokens=1,5,7", "--output=" + path});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->Find("logits")->shape, Shape({3, 320}));
  ExpectError(
      {"logits", "--model=" + *model_, "--tokens=1,320", "--output=" + path}, 3,
      "320");
  ExpectError({"logits", "--model=" + *model_, "--tokens=", "--output=" + path},
              3, "");
}

TEST_F(CommandsTest, EmbedPools) {
  for (const char* pooling : {"mean", "last", "cls"}) {
    const CommandOutcome outcome =
        RunQeff({"embed", "--model=" + *model_, "--text=Hi",
                 absl::StrCat("--pooling=", pooling)});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.json["embedding"].size(), 64u);
  }
  ExpectError({"embed", "--model=" + *model_, "--text=x", "--pooling=max"}, 2,
              "expected one of mean, last, cls");
}

TEST_F(CommandsTest, GenerateIsSeededAndStops) {
  const std::vector<std::string> sampled = {
      "generate",        "--model=" + *model_,  "--prompt=Hi",
      "--temperature=1", "--max_new_tokens=20", "--seed=3"};
  std::vector<std::string> one_thread = sampled;
  one_thread.push_back("--threads=1");
  EXPECT_EQ(RunQeff(sampled).json["tokens"],
            RunQeff(one_thread).json["tokens"]);
  std::vector<std::string> other_seed = sampled;
  other_seed.back() = "--seed=4";
  EXPECT_NE(RunQeff(sampled).json["tokens"],
            RunQeff(other_seed).json["tokens"]);
  ExpectError({"generate", "--model=" + *model_, "--prompt=x", "--top_p=1.5"},
              3, "top_p");
  ExpectError(
      {"generate", "--model=" + *model_, "--prompt=x", "--max_new_tokens=0"}, 3,
      "max_new_tokens");
}

TEST_F(CommandsTest, GenerateWithADraftModel) {
  const std::string draft = Synth("tiny", {"--dtype=f32", "--seed=5"});
  const std::vector<std::string> plain = {"generate", "--prompt=Hi",
                                          "--max_new_tokens=20"};
  const auto with = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), plain.begin(), plain.end());
    return flags;
  };
  const std::string package = NewPath();
  // lm_head as the folder has it, so that both give the same bits.
  ASSERT_EQ(RunQeff({"compile", "--model=" + *model_, "--output=" + package,
                     "--lm_head=keep"})
                .code,
            0);
  const Json expected = RunQeff(with({"--model=" + *model_})).json;
  EXPECT_FALSE(expected.contains("speculation"));
  for (const std::string& source :
       {"--model=" + *model_, "--package=" + package}) {
    const CommandOutcome other =
        RunQeff(with({source, "--draft=" + draft, "--draft_tokens=2"}));
    ASSERT_EQ(other.code, 0) << other.err;
    EXPECT_EQ(other.json["tokens"], expected["tokens"]);
    const CommandOutcome same = RunQeff(with({source, "--draft=" + *model_}));
    ASSERT_EQ(same.code, 0) << same.err;
    EXPECT_EQ(same.json["tokens"], expected["tokens"]);
    EXPECT_EQ(same.json["speculation"]["acceptance_rate"], 1.0);
    EXPECT_THAT(same.out, HasSubstr("Draft acceptance is= 1.0 (15 of 15), "
                                    "tokens a pass= 4.75\n"));
    const CommandOutcome two =
        RunQeff(with({source, "--draft=" + *model_, "--prompt=Hello"}));
    ASSERT_EQ(two.code, 0) << two.err;
    EXPECT_EQ(two.json["results"][0]["tokens"], expected["tokens"]);
    EXPECT_EQ(two.json["speculation"]["acceptance_rate"], 1.0);
  }
  const std::vector<std::string> base =
      with({"--model=" + *model_, "--draft=" + draft});
  const auto expect_error = [&](const std::string& flag, int code,
                                const std::string& message) {
    std::vector<std::string> arguments = base;
    arguments.push_back(flag);
    ExpectError(arguments, code, message);
  };
  expect_error("--batch_size=2", 2, "--batch_size has no meaning with --draft");
  expect_error("--draft_tokens=0", 3, "draft_tokens: expected 1 to 31");
  expect_error("--prefill_chunk=4", 3, "prefill_chunk 4");
  expect_error("--context_length=300", 3, "draft: max_positions");
  ExpectError(with({"--model=" + *model_, "--draft_tokens=2"}), 2,
              "--draft_tokens is for --draft");
  ExpectError(with({"--model=" + *model_, "--draft=/nonexistent"}), 3,
              "draft: ");
}

TEST_F(CommandsTest, EvalRefusesWhatItCannotScore) {
  const std::string empty = MakeTestFolder() + "/empty.txt";
  WriteTestFile(empty, "");
  ExpectError({"eval", "--model=" + *model_, "--text=" + empty}, 3,
              "the file is empty");
  ExpectError({"eval", "--model=" + *model_, "--text=/nonexistent"}, 3,
              "/nonexistent");
  ExpectError(
      {"eval", "--model=" + *model_, "--text=" + *text_, "--context_length=1"},
      3, "context_length");
  ExpectError({"eval", "--model=" + *model_, "--text=" + *text_,
               "--protocol=llama.cpp", "--stride=4"},
              2, "--stride");
  ExpectError({"eval", "--model=" + *model_, "--text=" + *text_,
               "--reference=" + Synth("smollm-135m", {"--layers=1"})},
              3, "vocabularies differ");
}

TEST_F(CommandsTest, EvalCountsEveryByteOfTheText) {
  const CommandOutcome outcome =
      RunQeff({"eval", "--model=" + *model_, "--text=" + *text_});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  // A token a byte: bits per byte is the mean in bits.
  EXPECT_EQ(outcome.json["tokens"],
            static_cast<int64_t>(ReadTestFile(*text_).size()));
  EXPECT_NEAR(outcome.json["bits_per_byte"].get<double>(),
              outcome.json["nll"].get<double>() / std::log(2.0), 1e-9);
  const CommandOutcome strided =
      RunQeff({"eval", "--model=" + *model_, "--text=" + *text_,
               "--context_length=64", "--stride=16"});
  EXPECT_EQ(strided.json["tokens"], outcome.json["tokens"]);
}

TEST_F(CommandsTest, EvalOnEitherExecutor) {
  const auto nll = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 {"eval", "--model=" + *model_, "--text=" + *text_});
    const CommandOutcome outcome = RunQeff(flags);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.json["nll"].get<double>();
  };
  // Two float32 forwards of the same float32 weights.
  const double host = nll({"--executor=host"});
  EXPECT_NEAR(nll({}), host, 1e-5 * host);
  const double small = nll({"--kv_cache=int8", "--lm_head=int8"});
  EXPECT_NE(small, host);
  EXPECT_NEAR(small, host, 0.02 * host);
  ExpectError({"eval", "--model=" + *model_, "--text=" + *text_,
               "--executor=host", "--lm_head=int8"},
              2, "no meaning with --executor=host");
  ExpectError(
      {"eval", "--model=" + *model_, "--text=" + *text_, "--lm_head=int1"}, 2,
      "--lm_head: expected auto, keep or a scheme");
}

TEST_F(CommandsTest, GenerateWithEngineFlags) {
  const auto text = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"generate", "--model=" + *model_,
                                 "--prompt=Hi", "--max_new_tokens=4"});
    const CommandOutcome outcome = RunQeff(flags);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.json["tokens"].get<std::vector<int32_t>>();
  };
  const std::vector<int32_t> tokens = text({});
  EXPECT_EQ(text({"--activations=f32", "--lm_head=keep"}), tokens);
  EXPECT_EQ(text({"--kv_cache=f16"}).size(), tokens.size());
}

TEST_F(CommandsTest, QuantizePlansBeforeItWorks) {
  const std::string output = NewPath();
  const CommandOutcome dry =
      RunQeff({"quantize", "--model=" + *model_, "--output=" + output,
               "--scheme=int4_g32", "--dry_run"});
  ASSERT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, HasSubstr("model.layers.0.mlp.down_proj"));
  EXPECT_TRUE(ListTestFolder(output.substr(0, output.size() - 4)).empty());
}

TEST_F(CommandsTest, QuantizeRefusesBadRequests) {
  const std::string output = NewPath();
  const std::vector<std::string> base = {"quantize", "--model=" + *model_,
                                         "--output=" + output};
  const auto with = [&](std::vector<std::string> flags) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return arguments;
  };
  ExpectError(with({"--scheme=int9"}), 2, "int9");
  ExpectError(with({}), 2, "--scheme");
  ExpectError(with({"--scheme=int4", "--ignore=("}), 2, "--ignore");
  ExpectError(with({"--scheme=int4", "--algorithm=magic"}), 2, "algorithm");
  ExpectError({"quantize", "--model=" + *model_, "--output=" + *model_,
               "--scheme=int4"},
              3, "exists");
  ExpectError({"quantize", "--model=" + *model_, "--output=/proc/nowhere/out",
               "--scheme=int4"},
              4, "/proc/nowhere");
  EXPECT_TRUE(ListTestFolder(output.substr(0, output.size() - 4)).empty());
}

TEST_F(CommandsTest, SynthIsReproducible) {
  const std::string first = Synth("tiny", {"--outliers", "--threads=1"});
  const std::string second = Synth("tiny", {"--outliers", "--threads=2"});
  EXPECT_EQ(ReadTestFile(first + "/model.safetensors"),
            ReadTestFile(second + "/model.safetensors"));
  const std::string other = Synth("tiny", {"--outliers", "--seed=2"});
  EXPECT_NE(ReadTestFile(first + "/model.safetensors"),
            ReadTestFile(other + "/model.safetensors"));
  ExpectError({"synth", "--shape=huge", "--output=" + NewPath()}, 2,
              "expected one of llama-1b");
}

TEST_F(CommandsTest, EvalSimulatesCloudAi) {
  const std::string model = Synth("tiny", {});
  const std::string text = NewPath();
  WriteTestFile(text, std::string(400, 'a') + std::string(400, 'b'));
  const auto eval = [&](const std::string& simulate) {
    const CommandOutcome outcome =
        RunQeff({"eval", "--model=" + model, "--reference=" + model,
                 "--text=" + text, "--simulate=" + simulate});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.json["kl_mean"].get<double>();
  };
  const double weights = eval("mxfp6"), cache = eval("mxint8_kv");
  EXPECT_GT(weights, 0);
  EXPECT_GT(cache, 0);
  EXPECT_LT(cache, weights);
  EXPECT_GT(eval("mxfp6,mxint8_kv"), cache);
  ExpectError(
      {"eval", "--model=" + model, "--text=" + text, "--simulate=mxfp6,fp4"}, 2,
      "found 'fp4'");
  ExpectError({"eval", "--model=" + model, "--text=" + text, "--simulate=mxfp6",
               "--executor=engine"},
              2, "--executor=host");
}

TEST_F(CommandsTest, ExportWantsAFormatItKnows) {
  const std::string model = Synth("tiny", {});
  const std::string output = NewPath();
  ExpectError({"export", "--model=" + model, "--output=" + output}, 2,
              "--format");
  ExpectError(
      {"export", "--model=" + model, "--output=" + output, "--format=ggml"}, 2,
      "must be one of gguf, onnx");
  ExpectError({"export", "--model=" + model, "--output=" + output,
               "--format=onnx", "--scheme=q4_0"},
              2, "--scheme goes with --format=gguf");
  ExpectError({"export", "--model=" + model, "--output=" + output,
               "--format=onnx", "--graph=mean", "--continuous_batching"},
              2, "--graph=causal_lm");
  const auto file_exists = [&] { return access(output.c_str(), F_OK) == 0; };
  EXPECT_FALSE(file_exists());
  const CommandOutcome exported = RunQeff(
      {"export", "--model=" + model, "--output=" + output, "--format=onnx"});
  EXPECT_EQ(exported.code, 0) << exported.err;
  EXPECT_THAT(exported.out, HasSubstr("nodes"));
  EXPECT_TRUE(file_exists());
}

TEST_F(CommandsTest, BrokenModelsAreNamed) {
  const auto inspect = [](const std::string& model) {
    return std::vector<std::string>{"inspect", "--model=" + model};
  };
  ExpectError(inspect("/nonexistent"), 3, "/nonexistent");
  ExpectError(inspect(WithFile("config.json", "[]")), 3, "config.json");
  ExpectError(inspect(WithFile("config.json", "{\"a\":")), 3, "config.json");
  ExpectError(inspect(WithFile("config.json",
                               R"({"model_type":"llama","hidden_size":-4})")),
              3, "hidden_size");
  ExpectError(inspect(WithFile("model.safetensors", "")), 3,
              "model.safetensors");
  ExpectError(
      inspect(WithFile("model.safetensors", std::string(8, '\xFF') + "{}")), 3,
      "model.safetensors");
  ExpectError(
      {"tokenize", "--text=x",
       "--model=" + WithFile("tokenizer.json", std::string(10000, '['))},
      3, "tokenizer.json");
}

}  // namespace
}  // namespace qeff
