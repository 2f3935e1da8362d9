// SPDX-License-Identifier: Apache-2.0

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/pipeline/recipe.h"
#include "tools/command.h"
#include "tools/commands/commands.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;

constexpr char kPrune[] =
    "step { prune { pattern: \"2:4\" calibration_tokens: 1024"
    " sequence_length: 64 } }\n";
constexpr char kDistill[] =
    "step { distill { loss: \"kl:1,ce:1\" steps: 6 batch_size: 2"
    " sequence_length: 32 save_every: 1 } }\n";
constexpr char kQuantize[] =
    "step { quantize { scheme: \"int4_g32\" algorithm: \"gptq\""
    " calibration_tokens: 1024 sequence_length: 64 } }\n";
constexpr char kRest[] =
    "step { evaluate { max_tokens: 200 } }\n"
    "step { export { format: \"onnx\" } }\n"
    "step { compile { target: \"x86-64\" } }\n";

class OptimizeTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(RunQeff({"synth", "--shape=tiny", "--output=" + model_}).code, 0);
    std::string text;
    for (int i = 0; i < 3000; ++i) absl::StrAppend(&text, i * i % 1013, " ");
    WriteTestFile(text_, text);
  }

  std::vector<std::string> Arguments(const std::string& recipe,
                                     const std::string& output) {
    WriteTestFile(recipe_, recipe);
    return {"optimize",           "--model=" + model_, "--recipe=" + recipe_,
            "--output=" + output, "--work=" + work_,   "--calibration=" + text_,
            "--data=" + text_,    "--text=" + text_};
  }

  CommandOutcome Optimize(const std::string& recipe, const std::string& output,
                          const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = Arguments(recipe, output);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunQeff(arguments);
  }

  // Names of steps that were there already.
  static std::vector<std::string> Found(const Json& report) {
    std::vector<std::string> names;
    for (const Json& step : report["steps"]) {
      if (step["from_cache"]) names.push_back(step["name"]);
    }
    return names;
  }

  const std::string folder_ = MakeTestFolder();
  const std::string model_ = folder_ + "/model";
  const std::string text_ = folder_ + "/text.txt";
  const std::string recipe_ = folder_ + "/recipe.textproto";
  const std::string work_ = folder_ + "/work";
  const std::string output_ = folder_ + "/out";
};

TEST_F(OptimizeTest, FieldsOfRecipesAreFlagsOfCommands) {
  const auto commands = AllCommands();
  const auto* step = pipeline::Step::descriptor();
  ASSERT_EQ(step->field_count(), 6);
  for (int i = 0; i < step->field_count(); ++i) {
    const auto* options = step->field(i)->message_type();
    std::string command = step->field(i)->name();
    if (command == "evaluate") command = "eval";
    for (int j = 0; j < options->field_count(); ++j) {
      const absl::Status status = CheckArguments(
          {command, absl::StrCat("--", options->field(j)->name(), "=1")},
          commands);
      EXPECT_THAT(std::string(status.message()), Not(HasSubstr("unknown flag")))
          << command << ' ' << options->field(j)->name();
    }
  }
}

TEST_F(OptimizeTest, RunsEachStepOnce) {
  const std::string recipe = absl::StrCat(kPrune, kDistill, kQuantize, kRest);
  const CommandOutcome plan = Optimize(recipe, output_, {"--plan"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_THAT(Found(plan.json), IsEmpty());
  ASSERT_EQ(plan.json["steps"].size(), 7U);
  EXPECT_GT(plan.json["steps"][3]["seconds"].get<double>(), 0);
  EXPECT_LT(plan.json["steps"][3]["bytes"], plan.json["steps"][1]["bytes"]);
  EXPECT_FALSE(std::filesystem::exists(work_));

  const CommandOutcome first =
      Optimize(recipe, output_, {"--prompt=1", "--prompt=25"});
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_THAT(Found(first.json), IsEmpty());
  EXPECT_THAT(ListTestFolder(output_),
              ElementsAre("compile_7", "export_6", "model", "recipe.textproto",
                          "report.html", "report.json"));
  EXPECT_THAT(ReadTestFile(output_ + "/report.html"), HasSubstr("quantize_4"));
  EXPECT_EQ(ReadTestFile(output_ + "/recipe.textproto"), recipe);
  // Before and after, measured.
  ASSERT_EQ(first.json["models"].size(), 2U);
  EXPECT_EQ(first.json["models"][0]["name"], "input");
  EXPECT_LT(first.json["models"][0]["kl_mean"].get<double>(), 1e-3);
  EXPECT_EQ(first.json["models"][1]["name"], "quantize_4");
  EXPECT_GT(first.json["models"][1]["kl_mean"].get<double>(), 1e-3);
  EXPECT_LT(first.json["models"][1]["bytes"], first.json["models"][0]["bytes"]);
  EXPECT_EQ(first.json["samples"].size(), 2U);
  ASSERT_EQ(first.json["layers"].size(), 14U);
  EXPECT_GT(first.json["layers"][0]["relative_error"].get<double>(), 0);
  EXPECT_GT(first.json["layers"][0]["loss"].get<double>(), 0);
  ASSERT_EQ(first.json["sensitivities"].size(), 8U);
  EXPECT_EQ(first.json["sensitivities"][0]["scheme"], "int4_g32");
  EXPECT_GT(first.json["sensitivities"][0]["sensitivity"].get<double>(), 0);
  EXPECT_EQ(first.json["weight_histograms"].size(), 7U);
  EXPECT_EQ(first.json["activation_histograms"].size(), 7U);
  ASSERT_EQ(first.json["loss_curves"].size(), 1U);
  EXPECT_GE(first.json["loss_curves"][0]["points"].size(), 6U);
  EXPECT_EQ(
      RunQeff({"generate", "--package=" + output_ + "/compile_7/model.qpk",
               "--prompt=1", "--max_new_tokens=2"})
          .code,
      0);

  // Nothing is run again, also by another recipe that begins so.
  const CommandOutcome again = Optimize(recipe, folder_ + "/again");
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(Found(again.json).size(), 7U);
  const CommandOutcome other = Optimize(
      absl::StrCat(kPrune, kDistill, "step { quantize { scheme: \"int8\" } }"),
      folder_ + "/other");
  ASSERT_EQ(other.code, 0) << other.err;
  EXPECT_THAT(Found(other.json), ElementsAre("prune_1", "distill_2"));
  // With another text it is another step.
  WriteTestFile(text_, ReadTestFile(text_) + "x");
  const CommandOutcome changed = Optimize(recipe, output_, {"--plan"});
  EXPECT_THAT(Found(changed.json), IsEmpty());
}

TEST_F(OptimizeTest, WhatIsWrongIsFoundBeforeAnythingRuns) {
  const auto expect = [&](const std::string& recipe, int code,
                          const std::string& message) {
    const CommandOutcome outcome = Optimize(recipe, output_);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_FALSE(std::filesystem::exists(work_));
    EXPECT_FALSE(std::filesystem::exists(output_));
  };
  expect(absl::StrCat(kQuantize, kPrune), 3, "recipe.textproto:2: prune");
  expect(absl::StrCat(kPrune, "step { quantize { schema: \"int4\" } }"), 3,
         "recipe.textproto:2: ");
  // A value that only the command's own table knows.
  expect(absl::StrCat(kQuantize, "step { compile { target: \"vax\" } }"), 2,
         "compile_2 (line 2 of the recipe): ");
  // Values that commands check themselves.
  for (const char* step :
       {R"(quantize { scheme: "int4" algorithm: "nonsense" })",
        R"(quantize { scheme: "int4" lm_head: "int99" })",
        R"(quantize { scheme: "int4" ignore: "(" })",
        R"(quantize { budget: "4bpwx" })",
        R"(prune { pattern: "5:4" })",
        R"(prune { sparsity: 1.5 })",
        "prune {}",
        R"(prune { method: "structured" })",
        R"(distill { loss: "foo:1" })",
        R"(distill { layers: "x" })",
        R"(distill { student_init: "x" })",
        "distill { steps: -1 }",
        R"(compile { lm_head: "x" })",
        "compile { batch_size: 0 }",
        R"(compile { target: "aic100" num_speculative_tokens: "x" })",
        R"(evaluate { lm_head: "x" })",
        R"(evaluate { simulate: "x" })",
        R"(export { format: "nonsense" })",
        R"(export { format: "gguf" scheme: "x" })",
        R"(export { format: "onnx" graph: "mean" variant: "aic" })"}) {
    SCOPED_TRACE(step);
    const std::string name(step, absl::string_view(step).find(' '));
    expect(absl::StrCat("\nstep { ", step, " }"), 2,
           absl::StrCat(name, "_1 (line 2 of the recipe): "));
  }
  expect("step { prune { pattern: \"2:4\" calibration_tokens: -3 } }", 3,
         "prune_1 (line 1 of the recipe): --calibration_tokens");
}

// Searches end with a model within the limit, and a recipe that makes it.
TEST_F(OptimizeTest, FindsARecipe) {
  const auto search = [&](const std::string& limit, const std::string& output) {
    std::vector<std::string> arguments = Arguments("", output);
    arguments.erase(arguments.begin() + 2);  // --recipe
    for (const char* more :
         {"--calibration_tokens=1024", "--distill_steps=2"}) {
      arguments.push_back(more);
    }
    arguments.push_back(limit);
    return RunQeff(arguments);
  };
  const CommandOutcome size = search("--target_size=130kB", output_);
  ASSERT_EQ(size.code, 0) << size.err;
  int chosen = 0;
  double least = 1e30, of_chosen = 0;
  for (const Json& seen : size.json["front"]) {
    const double perplexity = seen["perplexity"];
    if (seen["bytes"] <= 130000) least = std::min(least, perplexity);
    if (!seen["chosen"]) continue;
    ++chosen;
    of_chosen = perplexity;
    EXPECT_LE(seen["bytes"], 130000);
  }
  EXPECT_EQ(chosen, 1);
  EXPECT_EQ(of_chosen, least);
  EXPECT_GE(size.json["front"].size(), 3U);
  // The recipe alone makes the same model.
  const CommandOutcome again =
      Optimize(ReadTestFile(output_ + "/recipe.textproto"), folder_ + "/again",
               {"--restart"});
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(ReadTestFile(output_ + "/model/model.safetensors"),
            ReadTestFile(folder_ + "/again/model/model.safetensors"));

  const CommandOutcome increase =
      search("--max_perplexity_increase=300%", folder_ + "/increase");
  ASSERT_EQ(increase.code, 0) << increase.err;
  const CommandOutcome impossible =
      search("--target_bpw=0.5", folder_ + "/impossible");
  EXPECT_EQ(impossible.code, 3);
  EXPECT_THAT(impossible.err, HasSubstr("nothing is as small"));
  EXPECT_EQ(search("--target_bpw=-1", output_ + "2").code, 2);
  EXPECT_EQ(search("--target_size=big", output_ + "2").code, 2);
  EXPECT_EQ(search("--time_limit=1m", output_ + "2").code, 2);
}

// What one step was given is not what the next one gets.
TEST_F(OptimizeTest, StepsHaveFlagsOfTheirOwn) {
  const CommandOutcome outcome = Optimize(
      "step { evaluate { max_tokens: 100 } }\nstep { evaluate {} }", output_);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json& steps = outcome.json["steps"];
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(steps[0]["result"]["tokens"], 100);
  EXPECT_GT(steps[1]["result"]["tokens"], 1000);
}

// Damage in what an earlier run left is no result.
TEST_F(OptimizeTest, DamagedRecordsAreMadeAgain) {
  const std::string recipe = "step { quantize { scheme: \"int8\" } }";
  ASSERT_EQ(Optimize(recipe, output_).code, 0);
  const std::string step = work_ + "/" + ListTestFolder(work_)[0];
  const std::string record = ReadTestFile(step + "/result.json");
  const std::string weights =
      ReadTestFile(output_ + "/model/model.safetensors");
  std::string flipped = record;
  flipped[record.find("\"seconds\": ") + 12] ^= 1;
  int round = 0;
  for (const std::string& damaged :
       {std::string(), std::string("[]"), std::string("{\"result\": 3}"),
        record.substr(0, record.size() / 2), flipped}) {
    SCOPED_TRACE(damaged);
    WriteTestFile(step + "/result.json", damaged);
    const std::string output = absl::StrCat(output_, ++round);
    const CommandOutcome refused = Optimize(recipe, output);
    EXPECT_EQ(refused.code, 3) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("--restart"));
    const CommandOutcome again = Optimize(recipe, output, {"--restart"});
    ASSERT_EQ(again.code, 0) << again.err;
    EXPECT_THAT(Found(again.json), IsEmpty());
    EXPECT_EQ(ReadTestFile(output + "/model/model.safetensors"), weights);
  }
  // A model that has lost something is made again, too.
  ASSERT_EQ(truncate((step + "/model/config.json").c_str(), 3), 0);
  EXPECT_EQ(Optimize(recipe, output_ + "x").code, 3);
}

// Hugging Face's cache is made of links.
TEST_F(OptimizeTest, LinkedModelsAndOutputsWithASlash) {
  const std::string linked = folder_ + "/snapshot";
  std::filesystem::create_directory(linked);
  for (const std::string& name : ListTestFolder(model_)) {
    std::filesystem::create_symlink("../model/" + name, linked + "/" + name);
  }
  std::vector<std::string> arguments =
      Arguments("step { evaluate { max_tokens: 50 } }", output_ + "//");
  arguments[1] = "--model=" + linked;
  const CommandOutcome outcome = RunQeff(arguments);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::filesystem::remove_all(linked);
  EXPECT_EQ(ReadTestFile(output_ + "/model/model.safetensors"),
            ReadTestFile(model_ + "/model.safetensors"));
  EXPECT_EQ(RunQeff({"inspect", "--model=" + output_ + "/model"}).code, 0);
}

TEST_F(OptimizeTest, AnOutputThatExistsIsKept) {
  WriteTestFile(output_, "precious");
  const CommandOutcome outcome = Optimize(kQuantize, output_);
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_EQ(ReadTestFile(output_), "precious");
  EXPECT_FALSE(std::filesystem::exists(work_));
}

// Killed anywhere, it goes on to the same bytes.
TEST_F(OptimizeTest, KilledRunsGoOn) {
  const std::string recipe = absl::StrCat(kPrune, kDistill, kQuantize);
  const absl::Time begin = absl::Now();
  ASSERT_EQ(Optimize(recipe, folder_ + "/whole").code, 0);
  const absl::Duration whole = absl::Now() - begin;
  const std::string weights = "/model/model.safetensors";
  for (int round = 0; round < 6; ++round) {
    SCOPED_TRACE(round);
    std::filesystem::remove_all(work_);
    std::filesystem::remove_all(output_);
    for (int kill_at = 0; kill_at < 2; ++kill_at) {
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        _exit(Optimize(recipe, output_, {"--resume"}).code);
      }
      absl::SleepFor(whole * (round + 1) / 8);
      kill(child, SIGKILL);
      int status;
      waitpid(child, &status, 0);
    }
    const bool complete = std::filesystem::exists(output_);
    if (!complete) {
      const CommandOutcome refused = Optimize(recipe, output_);
      const CommandOutcome resumed =
          refused.code == 0 ? refused : Optimize(recipe, output_, {"--resume"});
      if (refused.code != 0) {
        EXPECT_THAT(refused.err, HasSubstr("--resume"));
      }
      ASSERT_EQ(resumed.code, 0) << resumed.err;
    }
    EXPECT_EQ(ReadTestFile(output_ + weights),
              ReadTestFile(folder_ + "/whole" + weights));
    EXPECT_THAT(ListTestFolder(folder_), IsSupersetOf({"out", "work"}));
  }
}

}  // namespace
}  // namespace qeff
