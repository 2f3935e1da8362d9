// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/io/checkpoint.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/sgemm/fma_peak.h"
#include "qeff/pipeline/estimate.h"
#include "qeff/pipeline/recipe.h"
#include "qeff/pipeline/report/report_html.h"
#include "qeff/pipeline/run_recipe.h"
#include "qeff/pipeline/search.h"
#include "qeff/quant/budget.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/optimize_report.h"
#include "tools/commands/sanity_flag.h"
#include "tools/version.h"

namespace qeff {
namespace {

constexpr uint64_t kMaxRecipeBytes = uint64_t{1} << 20;
// The best counts, which other work disturbed least.
constexpr int kPeakRounds = 9;

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
           "Without a recipe one is searched for: give a limit of size or of "
           "perplexity, and --calibration, --text and better also --data. The "
           "recipe that is found reproduces the model; report.json has all "
           "models that the search saw.\n\n"
           "OUTPUT gets model/, what was exported and compiled, the recipe and "
           "report.html with its numbers in report.json. Every step's own "
           "output stays in --work, under a hash "
           "of what it depends on: a step that was run once is not run again, "
           "for this recipe or another.\n\n"
           "--plan prints the steps, which of them are there, and about what "
           "the others will take, and runs nothing.";
  }
  absl::string_view examples() const override {
    return "optimize --model=llama --recipe=recipe.textproto "
           "--calibration=text.txt --text=held_out.txt --output=optimized\n"
           "optimize --model=llama --recipe=recipe.textproto "
           "--calibration=text.txt --text=held_out.txt --output=optimized "
           "--plan\n"
           "optimize --model=llama --target_size=300MB --time_limit=30m "
           "--calibration=text.txt --data=text.txt --text=held_out.txt "
           "--output=optimized\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &inputs_.model, "DIR", "The model's folder.");
    flags->Add("recipe", &recipe_, "FILE", "The steps.");
    flags->Add(
        "target_size", &target_size_, "BYTES",
        "Instead: searches for the best model whose weights take at most "
        "this much, as 300MB.");
    flags->Add("target_bpw", &target_bpw_, "BITS",
               "Instead: the best one whose blocks' layers take at most this "
               "many bits a weight, as 3.25.");
    flags->Add(
        "max_perplexity_increase", &max_increase_, "SHARE",
        "Instead: the smallest one whose perplexity on --text is at most "
        "this much higher than the model's own, as 2%.");
    flags->AddChoice("target", &target_,
                     {"folder", "generic", "x86-64", "aarch64"},
                     "What a search makes and a limit counts: a model folder, "
                     "or a device package for these machines, of schemes that "
                     "the engine has integer kernels for.");
    flags->Add("time_limit", &time_limit_, "DURATION",
               "As 30m: a search begins nothing new after that time.");
    flags->Add("distill_steps", &limits_.candidates.distill_steps, "N",
               "Steps of distillation that a search takes.");
    flags->Add("calibration_tokens", &limits_.candidates.calibration_tokens, "N",
               "Tokens of --calibration that a search draws.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
    flags->Add("work", &work_, "DIR",
               "Keeps the outputs of steps; OUTPUT.work if none is given.");
    flags->Add("calibration", &inputs_.calibration, "FILE",
               "UTF-8 text that is like what the model will read.");
    flags->AddRepeated("data", &inputs_.data, "FILE",
                       "UTF-8 text to learn from, for distill. May be "
                       "repeated.");
    flags->Add("text", &inputs_.text, "FILE",
               "Held-out UTF-8 text: models are measured on it.");
    sanity_.Declare(flags);
    flags->AddRepeated(
        "prompt", &prompts_, "STRING",
        "Continued by the model before and after, for the "
        "report; the first words of --text if none is given. May be repeated.");
    flags->Add("plan", &plan_, "", "Prints what would be done, and stops.");
    flags->Add("resume", &resume_, "",
               "Goes on with a step that an interrupted run left unfinished.");
    flags->Add("restart", &restart_, "", "Begins such a step anew.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    if (resume_ && restart_) {
      return UsageError("--resume and --restart exclude each other");
    }
    QEFF_RETURN_IF_ERROR(CheckTarget());
    while (output_.size() > 1 && output_.back() == '/') output_.pop_back();
    std::string text;
    std::vector<RecipeStep> steps;
    if (!recipe_.empty()) {
      QEFF_ASSIGN_OR_RETURN(text, ReadFileToString(recipe_, kMaxRecipeBytes));
      QEFF_ASSIGN_OR_RETURN(steps, ParseRecipe(text, recipe_, inputs_.texts()));
      MeasureTheInput(&steps);
    }
    RecipeRunOptions options;
    options.work = work_.empty() ? output_ + ".work" : work_;
    options.unfinished = resume_    ? PartialWork::kResume
                         : restart_ ? PartialWork::kRestart
                                    : PartialWork::kRefuse;
    options.version = kQeffVersion;
    options.common_flags = {
        absl::StrCat("--threads=", env.pool->num_threads())};
    options.run = [&env](const std::vector<std::string>& arguments) {
      // A command holds the values of its flags: each step has its own.
      return RunForResult(arguments, AllCommands(), env.out, stderr);
    };
    options.check = [](const std::vector<std::string>& arguments) {
      return CheckArguments(arguments, AllCommands());
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
    QEFF_RETURN_IF_ERROR(CheckModel(env));
    Json front = Json::array();
    if (recipe_.empty()) {
      QEFF_ASSIGN_OR_RETURN(text, Find(options, env, &front));
      QEFF_ASSIGN_OR_RETURN(
          steps, ParseRecipe(text, "what was found", inputs_.texts()));
      MeasureTheInput(&steps);
    }
    QEFF_ASSIGN_OR_RETURN(const RecipeResult result,
                          RunRecipe(steps, inputs_, options));
    QEFF_ASSIGN_OR_RETURN(
        Json report,
        OptimizeReport(inputs_, text, result, prompts_, options, env.pool));
    if (!front.empty()) report["front"] = front;
    QEFF_RETURN_IF_ERROR(CollectResult(result,
                                       {{"recipe.textproto", text},
                                        {"report.json", WriteJson(report)},
                                        {"report.html", ReportHtml(report)}},
                                       output_));
    Summarize(result, env);
    return report;
  }

 private:
  // Exactly one thing to do.
  absl::Status CheckTarget() {
    const int given = !recipe_.empty() + !target_size_.empty() +
                      (target_bpw_ != 0) + !max_increase_.empty();
    if (given != 1) {
      return UsageError(
          "expected one of --recipe, --target_size, --target_bpw and "
          "--max_perplexity_increase");
    }
    if (sanity_.strict() && CheckedText().empty()) {
      return UsageError("--strict needs --calibration, --data or --text");
    }
    if (!recipe_.empty()) {
      if (target_ == "folder") return absl::OkStatus();
      return UsageError("--target goes with a search; a recipe has compile");
    }
    if (target_ != "folder") limits_.target = target_;
    if (plan_) return UsageError("--plan goes with --recipe");
    if (inputs_.calibration.empty() || inputs_.text.empty()) {
      return UsageError("a search needs --calibration and --text");
    }
    if (!target_size_.empty()) {
      const auto budget = ParseBudget(target_size_);
      if (!budget.ok() || budget->bytes == 0) {
        return UsageError(absl::StrCat("--target_size=", target_size_,
                                       ": expected a size as 300MB"));
      }
      limits_.bytes = budget->bytes;
    }
    if (target_bpw_ < 0 || !std::isfinite(target_bpw_)) {
      return UsageError("--target_bpw: expected a number above 0");
    }
    limits_.bits_per_weight = target_bpw_;
    if (!max_increase_.empty()) {
      absl::string_view number = max_increase_;
      const bool percent = absl::ConsumeSuffix(&number, "%");
      if (!absl::SimpleAtod(number, &limits_.perplexity_increase) ||
          !(limits_.perplexity_increase > 0)) {
        return UsageError(
            absl::StrCat("--max_perplexity_increase=", max_increase_,
                         ": expected a share as 2% or 0.02"));
      }
      if (percent) limits_.perplexity_increase /= 100;
    }
    if (!time_limit_.empty() &&
        (!absl::ParseDuration(time_limit_, &limits_.time) ||
         limits_.time <= absl::ZeroDuration())) {
      return UsageError(absl::StrCat("--time_limit=", time_limit_,
                                     ": expected a time as 30m"));
    }
    return absl::OkStatus();
  }

  // The text of the recipe that was found. `front` gets all that was seen.
  absl::StatusOr<std::string> Find(const RecipeRunOptions& options,
                                   const CommandEnv& env, Json* front) const {
    QEFF_ASSIGN_OR_RETURN(
        const SearchResult found,
        SearchRecipe(inputs_, limits_, options, [&](const Candidate& seen) {
          std::fprintf(env.out,
                       "-- %s: %.2f MB, %.3f bits a weight, perplexity %.4f, "
                       "KL %.5f\n",
                       seen.name.c_str(), static_cast<double>(seen.bytes) / 1e6,
                       seen.bits_per_weight, seen.perplexity, seen.kl_mean);
        }));
    for (const std::string& scheme : found.ruled_out) {
      std::fprintf(env.out, "-- %s: ruled out by a probe\n", scheme.c_str());
    }
    for (const Candidate& seen : found.seen) {
      front->push_back({{"name", seen.name},
                        {"bytes", seen.bytes},
                        {"bits_per_weight", seen.bits_per_weight},
                        {"perplexity", seen.perplexity},
                        {"kl_mean", seen.kl_mean},
                        {"recipe", RecipeText(seen.recipe)},
                        {"chosen", seen.chosen}});
      if (seen.chosen) {
        std::fprintf(env.out, "\nchosen: %s, perplexity %.4f (before: %.4f)\n",
                     seen.name.c_str(), seen.perplexity,
                     found.perplexity_before);
      }
    }
    return RecipeText(found.recipe);
  }

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

  // The text that says most of what the model is for.
  const std::string& CheckedText() const {
    if (!inputs_.calibration.empty()) return inputs_.calibration;
    return inputs_.data.empty() ? inputs_.text : inputs_.data.front();
  }

  // Steps look at their own inputs, where they have a text.
  absl::Status CheckModel(const CommandEnv& env) const {
    if (CheckedText().empty()) return absl::OkStatus();
    QEFF_ASSIGN_OR_RETURN(const auto model, LoadTransformer(inputs_.model));
    QEFF_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(*model));
    return sanity_.CheckBeginning(model, *tokenizer, CheckedText(), env)
        .status();
  }

  absl::StatusOr<Json> Plan(absl::Span<const RecipeStep> steps,
                            const RecipeRunOptions& options,
                            const CommandEnv& env) const {
    QEFF_ASSIGN_OR_RETURN(const std::vector<StepReport> plan,
                          PlanRecipe(steps, inputs_, options));
    QEFF_ASSIGN_OR_RETURN(const auto checkpoint,
                          Checkpoint::Open(inputs_.model));
    QEFF_ASSIGN_OR_RETURN(const ModelMap map, MapModel(*checkpoint));
    EstimateOptions machine;
    for (int i = 0; i < kPeakRounds; ++i) {
      machine.peak_flops = std::max(machine.peak_flops,
                                    PeakRate(*env.pool, RunFusedMultiplyAdds,
                                             OperationsOfFusedMultiplyAdds()));
    }
    machine.text_tokens = TokensOf(inputs_.text);
    machine.calibration_tokens = TokensOf(inputs_.calibration);
    QEFF_ASSIGN_OR_RETURN(const std::vector<StepEstimate> estimates,
                          EstimateSteps(steps, *checkpoint, map, machine));
    Json json = Json::array();
    std::fprintf(env.out, "%-12s %10s %9s %10s\n", "step", "MB", "seconds",
                 "memory MB");
    for (size_t i = 0; i < plan.size(); ++i) {
      const StepReport& step = plan[i];
      const StepEstimate& estimate = estimates[i];
      std::fprintf(env.out, "%-12s %10.2f %9s %10.0f  %s\n", step.name.c_str(),
                   static_cast<double>(estimate.bytes) / 1e6,
                   step.from_cache
                       ? "done"
                       : absl::StrFormat("%.1f", estimate.seconds).c_str(),
                   static_cast<double>(estimate.memory_bytes) / 1e6,
                   absl::StrJoin(step.flags, " ").c_str());
      json.push_back({{"name", step.name},
                      {"hash", step.hash},
                      {"from_cache", step.from_cache},
                      {"arguments", step.flags},
                      {"bytes", estimate.bytes},
                      {"seconds", estimate.seconds},
                      {"memory_bytes", estimate.memory_bytes}});
    }
    return Json{{"steps", json}};
  }

  // Of a text, about.
  static int64_t TokensOf(const std::string& path) {
    constexpr int64_t kBytesPerToken = 3;
    std::error_code error;
    const auto bytes = std::filesystem::file_size(path, error);
    return error ? 0 : static_cast<int64_t>(bytes) / kBytesPerToken;
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
  std::string target_size_;
  double target_bpw_ = 0;
  std::string max_increase_;
  std::string target_ = "folder";
  std::string time_limit_;
  SearchLimits limits_;
  std::string output_;
  std::string work_;
  std::vector<std::string> prompts_;
  SanityFlag sanity_;
  bool plan_ = false;
  bool resume_ = false;
  bool restart_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeOptimizeCommand() {
  return std::make_unique<OptimizeCommand>();
}

}  // namespace qeff
