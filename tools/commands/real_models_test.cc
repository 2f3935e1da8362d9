// SPDX-License-Identifier: Apache-2.0
//
// The main job on a real, trained model, against what other programs made of
// it. Needs the folder in QEFF_SHARED_DATA.

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class RealModelsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("QEFF_SHARED_DATA");
    if (folder == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
    data_ = folder;
  }

  static CommandOutcome MustRun(std::vector<std::string> arguments) {
    CommandOutcome outcome = RunQeff(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome;
  }

  static double Value(const CommandOutcome& outcome, const char* key) {
    const auto it = outcome.json.find(key);
    return it == outcome.json.end() ? -1 : it->get<double>();
  }

  CommandOutcome Eval(const std::string& model,
                      const std::string& executor = "host") const {
    return MustRun({"eval", "--model=" + model,
                    "--text=" + data_ + "/text/tinystories_valid.txt",
                    "--reference=" + data_ + "/stories260k",
                    "--max_tokens=40000", "--executor=" + executor});
  }

  std::string Quantize(std::vector<std::string> flags) const {
    const std::string output = MakeTestFolder() + "/quantized";
    std::vector<std::string> arguments = {
        "quantize", "--model=" + data_ + "/stories260k", "--output=" + output};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    MustRun(arguments);
    return output;
  }

  std::string data_;
};

// The expected text is llama2.c's: BOS and 200 tokens, the prompt's 5 among
// them.
TEST_F(RealModelsTest, GreedyTextIsThatOfLlama2C) {
  const std::string model = data_ + "/stories260k";
  const CommandOutcome prompt =
      MustRun({"tokenize", "--model=" + model, "--text=Once upon a time"});
  const int64_t prompt_tokens = prompt.json["count"].get<int64_t>();
  const CommandOutcome outcome =
      MustRun({"generate", "--model=" + model, "--prompt=Once upon a time",
               absl::StrCat("--max_new_tokens=", 201 - prompt_tokens)});
  const std::string expected(
      absl::StripAsciiWhitespace(ReadTestFile(model + "/expected_greedy.txt")));
  EXPECT_THAT(outcome.out, StartsWith(expected + "\n\nAverage Prefill"));
}

// llama.cpp's perplexity tool prints 4.3490 for the same weights and text.
TEST_F(RealModelsTest, PerplexityIsThatOfLlamaCpp) {
  const CommandOutcome outcome =
      MustRun({"eval", "--model=" + data_ + "/stories260k_pad192",
               "--text=" + data_ + "/text/tinystories_first60.txt",
               "--protocol=llama.cpp", "--context_length=256"});
  EXPECT_NEAR(Value(outcome, "perplexity"), 4.3490, 4.3490 * 0.001);
}

TEST_F(RealModelsTest, Int8CostsAtMostATwoThousandthAndInt4HasItsRank) {
  const double f32 = Value(Eval(data_ + "/stories260k"), "perplexity");
  const std::string int8 = Quantize({"--scheme=int8"});
  EXPECT_LE(Value(Eval(int8), "perplexity"), f32 * 1.002);
  // With 8-bit activations and lm_head as well. Measured: 0.22 %.
  EXPECT_LE(Value(Eval(int8, "engine"), "perplexity"), f32 * 1.004);
  const CommandOutcome signed_max = Eval(Quantize({"--scheme=int4_g32"}));
  const CommandOutcome absmax =
      Eval(Quantize({"--scheme=int4_g32", "--scale_rule=absmax"}));
  // Measured: 9 % and 13 %.
  EXPECT_LE(Value(signed_max, "perplexity"), f32 * 1.11);
  EXPECT_LT(Value(signed_max, "perplexity"), Value(absmax, "perplexity"));
  EXPECT_LT(Value(signed_max, "kl_mean"), Value(absmax, "kl_mean"));
  EXPECT_GE(Value(signed_max, "top1_agreement"), 0.8);
}

TEST_F(RealModelsTest, TinyStories6mRunsFromItsSentencePieceModel) {
  const std::string model = data_ + "/tinystories6m";
  const CommandOutcome eval =
      MustRun({"eval", "--model=" + model,
               "--text=" + data_ + "/text/tinystories_lower_valid.txt",
               "--max_tokens=8000"});
  // Measured: 1.17. A wrong layout or tokenizer gives 4 or more.
  EXPECT_LT(Value(eval, "bits_per_byte"), 1.25);
  const CommandOutcome generate =
      MustRun({"generate", "--model=" + model, "--prompt=once upon a time",
               "--max_new_tokens=24"});
  EXPECT_THAT(generate.out, StartsWith("once upon a time"));
  EXPECT_GT(generate.json["text"].get<std::string>().size(), 30u);
}

// A model's own int8 version drafts for it: the text stays that of the floats.
TEST_F(RealModelsTest, AQuantizedModelDraftsForItself) {
  const std::string model = data_ + "/tinystories6m";
  const std::string draft = MakeTestFolder() + "/int8";
  MustRun(
      {"quantize", "--model=" + model, "--output=" + draft, "--scheme=int8"});
  const std::vector<std::string> plain = {"generate", "--model=" + model,
                                          "--prompt=once upon a time",
                                          "--max_new_tokens=200"};
  std::vector<std::string> drafted = plain;
  drafted.push_back("--draft=" + draft);
  const CommandOutcome greedy = MustRun(drafted);
  EXPECT_EQ(greedy.json["tokens"], MustRun(plain).json["tokens"]);
  // Measured: 0.94.
  EXPECT_GT(greedy.json["speculation"]["acceptance_rate"].get<double>(), 0.8);
  drafted.insert(drafted.end(), {"--temperature=0.8", "--top_p=0.9"});
  const CommandOutcome sampled = MustRun(drafted);
  EXPECT_EQ(sampled.json["tokens"], MustRun(drafted).json["tokens"]);
  EXPECT_GT(sampled.json["speculation"]["acceptance_rate"].get<double>(), 0.8);
}

}  // namespace
}  // namespace qeff
