// SPDX-License-Identifier: Apache-2.0
//
// Folders in other layouts are models for every command.

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/json.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr const char* kFormats[] = {"gptq", "gptq_v2", "awq",
                                    "compressed-tensors"};

std::string NewPath() { return MakeTestFolder() + "/out"; }

CommandOutcome MustRun(std::vector<std::string> arguments) {
  CommandOutcome outcome = RunQeff(std::move(arguments));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  return outcome;
}

std::string Quantize(const std::string& model, const std::string& scheme) {
  const std::string path = NewPath();
  MustRun({"quantize", "--model=" + model, "--output=" + path,
           "--scheme=" + scheme});
  return path;
}

std::string Export(const std::string& model, const std::string& format) {
  const std::string path = NewPath();
  const CommandOutcome outcome = MustRun(
      {"export", "--model=" + model, "--output=" + path, "--format=" + format});
  EXPECT_GT(outcome.json["layers"], 0);
  return path;
}

std::string TextFile() {
  const std::string path = MakeTestFolder() + "/text.txt";
  std::string text;
  for (int i = 0; i < 40; ++i) absl::StrAppend(&text, "Line ", i, " of text. ");
  WriteTestFile(path, text);
  return path;
}

Json Perplexity(const std::string& folder, const std::string& text,
                const char* executor) {
  return MustRun({"eval", "--model=" + folder, "--text=" + text,
                  absl::StrCat("--executor=", executor)})
      .json["perplexity"];
}

TEST(ExportFolder, EveryCommandTakesTheFolder) {
  const std::string model = NewPath();
  MustRun({"synth", "--shape=tiny-qwen2", "--output=" + model, "--dtype=f32"});
  const std::string quantized = Quantize(model, "int4_g32");
  const std::string text = TextFile();
  const auto generate = [](const std::string& folder) {
    return MustRun({"generate", "--model=" + folder, "--prompt=Hello",
                    "--max_new_tokens=8"})
        .json["tokens"];
  };
  for (const std::string format : kFormats) {
    SCOPED_TRACE(format);
    const std::string folder = Export(quantized, format);
    EXPECT_EQ(generate(folder), generate(quantized));
    // The same numbers, so the same sums, to the last digit.
    for (const char* executor : {"host", "engine"}) {
      EXPECT_EQ(Perplexity(folder, text, executor),
                Perplexity(quantized, text, executor));
    }
    EXPECT_GT(MustRun({"inspect", "--model=" + folder}).json["tensors"].size(),
              10u);
    const auto package = [](const std::string& of) {
      const std::string path = MakeTestFolder() + "/model.qeff";
      MustRun({"compile", "--model=" + of, "--output=" + path});
      return ReadTestFile(path);
    };
    EXPECT_EQ(package(folder).size(), package(quantized).size());
    // Groups of 32 with scales of F16 are blocks of ggml.
    const std::string gguf = NewPath() + ".gguf";
    MustRun({"export", "--model=" + folder, "--output=" + gguf, "--format=gguf",
             "--lm_head=f32"});
    EXPECT_EQ(Perplexity(gguf, text, "host"),
              Perplexity(quantized, text, "host"));
    MustRun({"export", "--model=" + folder, "--output=" + NewPath(),
             "--format=onnx"});
    const CommandOutcome again =
        RunQeff({"quantize", "--model=" + folder, "--output=" + NewPath(),
                 "--scheme=int8"});
    EXPECT_EQ(again.code, 3);
    EXPECT_THAT(again.err, HasSubstr("quantized already (quant_method"));
  }
}

TEST(ExportFolder, PrunedModelsWithoutTheirZeros) {
  const std::string text = TextFile();
  for (const std::string dtype : {"f32", "bf16"}) {
    SCOPED_TRACE(dtype);
    const std::string model = NewPath(), pruned = NewPath(), sparse = NewPath();
    MustRun({"synth", "--shape=tiny", "--output=" + model, "--dtype=" + dtype});
    MustRun({"prune", "--model=" + model, "--output=" + pruned,
             "--method=magnitude", "--pattern=2:4"});
    const CommandOutcome outcome =
        MustRun({"export", "--model=" + pruned, "--output=" + sparse,
                 "--format=sparse-24-bitmask"});
    EXPECT_EQ(outcome.json["layers"], 14);
    EXPECT_THAT(outcome.out, HasSubstr("lm_head is not 2:4"));
    for (const char* executor : {"host", "engine"}) {
      EXPECT_EQ(Perplexity(sparse, text, executor),
                Perplexity(pruned, text, executor));
    }
  }
}

TEST(ExportFolder, RefusalsAreErrorsOfTheInput) {
  const std::string model = NewPath();
  MustRun({"synth", "--shape=tiny", "--output=" + model});
  CommandOutcome outcome = RunQeff(
      {"export", "--model=" + model, "--output=" + NewPath(), "--format=gptq"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("no quantized layers"));
  outcome = RunQeff({"export", "--model=" + Quantize(model, "int8"),
                     "--output=" + NewPath(), "--format=awq"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("can be written as compressed-tensors, "
                                     "gptq, gptq_v2"));
  outcome = RunQeff({"export", "--model=" + model, "--output=" + NewPath(),
                     "--format=awq", "--scheme=q4_0"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("--scheme goes with --format=gguf"));
}

// The folder of the model is given by the environment variable
// QEFF_SHARED_DATA.
TEST(ExportFolder, PerplexityOfARealModelIsTheSame) {
  const char* data = std::getenv("QEFF_SHARED_DATA");
  if (data == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
  for (const std::string scheme : {"int4_g32", "int4_g64"}) {
    const std::string quantized =
        Quantize(absl::StrCat(data, "/tinystories6m"), scheme);
    const auto eval = [&](const std::string& folder) {
      return MustRun({"eval", "--model=" + folder,
                      absl::StrCat("--text=", data,
                                   "/text/tinystories_lower_valid.txt"),
                      "--max_tokens=4000"})
          .json["perplexity"];
    };
    const Json expected = eval(quantized);
    for (const std::string format : kFormats) {
      EXPECT_EQ(eval(Export(quantized, format)), expected) << format;
    }
  }
}

}  // namespace
}  // namespace qeff
