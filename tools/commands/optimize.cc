// SPDX-License-Identifier: Apache-2.0

#include <cstdio>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "qeff/io/checkpoint.h"
#include "qeff/pipeline/recipe.h"
#include "qeff/pipeline/run_recipe.h"
#include "qeff/transformer/count_parameters.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/optimize_report.h"
#include "tools/version.h"

namespace qeff {
namespace {

constexpr uint64_t kMaxRecipeBytes = uint64_t{1} << 20;

class OptimizeCommand : public Command {
 public:
  absl::string_view name() const override { return "optimize"; }
  absl::string_view summary() const override {
    return "Makes a deployable model of a checkpoint by a recipe.";
  }
  absl::string_view description() const override {
    return "A recipe is a text of steps (prune, distill, quantize, evaluate, "
           "export, compile), each with the flags of its command: "
           "qeff/pipeline/recipe.proto. It is checked in full before the first "
           "step runs. Wherever a step needs them, it gets --calibration, "
           "--data and --text; teacher and reference are --model.\n\n"
           "OUTPUT gets model/, what was exported and compiled, the recipe and "
           "report.json. Every step's own output stays in --work, under a hash "
           "of what it depends on: a step that was run once is not run again, "
           "for this recipe or another.\n\n"
           "--plan prints the steps, and which of them are there, and runs "
           "nothing.";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &inputs_.model, "DIR", "The model's folder.");
    flags->AddRequired("recipe", &recipe_, "FILE", "The steps.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
    flags->Add("work", &work_, "DIR",
               "Keeps the outputs of steps; OUTPUT.work if none is given.");
    flags->Add("calibration", &inputs_.calibration, "FILE",
               "UTF-8 text that is like what the model will read.");
    flags->AddRepeated("data", &inputs_.data, "FILE",
                       "UTF-8 text to learn from.");
    flags->Add("text", &inputs_.text, "FILE",
               "Held-out UTF-8 text: models are measured on it.");
    flags->AddRepeated("prompt", &prompts_, "STRING",
                       "Continued by the model before and after, for the "
                       "report.");
    flags->Add("plan", &plan_, "", "Prints what would be done, and stops.");
    flags->Add("resume", &resume_, "",
               "Goes on with a step that an interrupted run left unfinished.");
    flags->Add("restart", &restart_, "", "Begins such a step anew.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    if (resume_ && restart_) {
      return UsageError("--resume and --restart exclude each other");
    }
    QEFF_ASSIGN_OR_RETURN(const std::string text,
                          ReadFileToString(recipe_, kMaxRecipeBytes));
    QEFF_ASSIGN_OR_RETURN(std::vector<RecipeStep> steps,
                          ParseRecipe(text, recipe_, inputs_.texts()));
    MeasureTheInput(&steps);
    const std::vector<std::unique_ptr<Command>> commands = AllCommands();
    RecipeRunOptions options;
    options.work = work_.empty() ? output_ + ".work" : work_;
    options.unfinished = resume_    ? PartialWork::kResume
                         : restart_ ? PartialWork::kRestart
                                    : PartialWork::kRefuse;
    options.version = kQeffVersion;
    options.common_flags = {
        absl::StrCat("--threads=", env.pool->num_threads())};
    options.run = [&](const std::vector<std::string>& arguments) {
      return RunForResult(arguments, commands, env.out, stderr);
    };
    options.check = [&](const std::vector<std::string>& arguments) {
      return CheckArguments(arguments, commands);
    };
    options.on_begin = [&](const StepReport& step) {
      std::fprintf(env.out, "== %s %s\n", step.name.c_str(),
                   absl::StrJoin(step.flags, " ").c_str());
      std::fflush(env.out);
    };
    options.on_end = [&](const StepReport& step) {
      if (step.from_cache) {
        std::fprintf(env.out, "== %s %s: done before\n", step.name.c_str(),
                     absl::StrJoin(step.flags, " ").c_str());
      }
    };
    if (plan_) return Plan(steps, options, env);
    QEFF_RETURN_IF_ERROR(CheckOutput());
    QEFF_ASSIGN_OR_RETURN(const RecipeResult result,
                          RunRecipe(steps, inputs_, options));
    QEFF_ASSIGN_OR_RETURN(
        const Json report,
        OptimizeReport(inputs_, text, result, prompts_, options));
    QEFF_RETURN_IF_ERROR(CollectResult(result, text, report, output_));
    Summarize(result, env);
    return report;
  }

 private:
  // Where models are measured, the one that was given is, too.
  static void MeasureTheInput(std::vector<RecipeStep>* steps) {
    const auto evaluate = absl::c_find_if(*steps, [](const RecipeStep& step) {
      return step.kind == StepKind::kEvaluate;
    });
    const auto change = absl::c_find_if(
        *steps, [](const RecipeStep& step) { return step.changes_model(); });
    if (evaluate == steps->end() || evaluate < change) return;
    const RecipeStep first = *evaluate;
    steps->insert(steps->begin(), first);
  }

  absl::Status CheckOutput() const {
    return PartialFolder::Check(output_, PartialWork::kRestart);
  }

  absl::StatusOr<Json> Plan(absl::Span<const RecipeStep> steps,
                            const RecipeRunOptions& options,
                            const CommandEnv& env) const {
    QEFF_ASSIGN_OR_RETURN(const std::vector<StepReport> plan,
                          PlanRecipe(steps, inputs_, options));
    Json json = Json::array();
    for (const StepReport& step : plan) {
      std::fprintf(env.out, "%-14s %s %s %s\n", step.name.c_str(),
                   step.hash.c_str(),
                   step.from_cache ? "done before" : "to do      ",
                   absl::StrJoin(step.flags, " ").c_str());
      json.push_back({{"name", step.name},
                      {"hash", step.hash},
                      {"from_cache", step.from_cache},
                      {"arguments", step.flags}});
    }
    return Json{{"steps", json}};
  }

  void Summarize(const RecipeResult& result, const CommandEnv& env) const {
    std::fprintf(env.out, "\n%-14s %9s %10s %8s %9s\n", "step", "seconds", "MB",
                 "bits/w", "peak MB");
    for (const StepReport& step : result.steps) {
      std::fprintf(
          env.out, "%-14s %9.2f %10s %8s %9.0f\n", step.name.c_str(),
          step.seconds,
          step.bytes == 0
              ? ""
              : absl::StrFormat("%.2f", static_cast<double>(step.bytes) / 1e6)
                    .c_str(),
          step.parameters == 0
              ? ""
              : absl::StrFormat("%.2f", step.bits_per_weight()).c_str(),
          static_cast<double>(step.peak_bytes) / 1e6);
    }
    std::fprintf(env.out, "%s\n", output_.c_str());
  }

  RecipeInputs inputs_;
  std::string recipe_;
  std::string output_;
  std::string work_;
  std::vector<std::string> prompts_;
  bool plan_ = false;
  bool resume_ = false;
  bool restart_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeOptimizeCommand() {
  return std::make_unique<OptimizeCommand>();
}

}  // namespace qeff
