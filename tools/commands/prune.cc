// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/calibration/calibrated_run.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/prune/allocation.h"
#include "qeff/prune/prune_model.h"
#include "qeff/prune/prune_plan.h"
#include "qeff/prune/prune_report.h"
#include "qeff/prune/sparsity_pattern.h"
#include "qeff/quant/calibrated_quantize.h"
#include "qeff/quant/format_plan.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/quantize_report.h"
#include "qeff/util/name_pattern.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/calibration_flags.h"
#include "tools/commands/commands.h"
#include "tools/commands/prune_structured.h"
#include "tools/commands/quantize_text.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

// A flag's value that is not what it should be.
absl::Status FlagError(absl::string_view flag, const absl::Status& status) {
  return UsageError(absl::StrCat("--", flag, ": ", status.message()));
}

// Says which layers had more zeros than they were to get.
std::string SparserNote(const PrunePlan& plan,
                        const std::vector<PruneReport>& layers) {
  int64_t count = 0;
  std::string first;
  for (const PruneReport& report : layers) {
    const PrunedLayer* layer = plan.Find(report.module);
    if (layer == nullptr) continue;
    const double asked =
        static_cast<double>(layer->pattern.Removed(layer->cols)) /
        static_cast<double>(layer->cols);
    if (report.zeros <= asked + 0.001) continue;
    if (count++ == 0) first = report.module;
  }
  if (count == 0) return "";
  return absl::StrCat("note: ", count, " layers (", first,
                      " first) were sparser than asked and keep all of their "
                      "zeros\n");
}

class PruneCommand : public Command {
 public:
  absl::string_view name() const override { return "prune"; }
  absl::string_view summary() const override {
    return "Writes a model whose least important weights are 0.";
  }
  absl::string_view description() const override {
    return "Removes weights of the linear layers of the blocks: a share of "
           "them, or N of each M kept. magnitude looks at the weights alone; "
           "wanda at their inputs, too; sparsegpt lets the weights that are "
           "left make up for those that go. The output is an ordinary model "
           "folder; every command keeps its zeros, and compile stores what is "
           "left only.\n\n"
           "structured removes whole layers, heads, neurons or channels "
           "instead: the output is a model of smaller sizes.\n\n"
           "With --scheme the weights that are left are quantized in the same "
           "run, and make up for that, too.\n\n"
           "With calibration the blocks are pruned one after the other, each "
           "on what the pruned blocks before it give. A finished block is on "
           "the disk; a run that was ended, by whatever, goes on with --resume "
           "and writes the same bytes.";
  }
  absl::string_view examples() const override {
    return "prune --model=llama --output=sparse --method=sparsegpt "
           "--pattern=2:4 --calibration=text.txt\n"
           "prune --model=llama --output=shallow --method=structured "
           "--parameters=0.8 --calibration=text.txt --compensate\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR", "The model's folder.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
    flags->AddChoice("method", &method_,
                     {"magnitude", "wanda", "sparsegpt", "structured"},
                     "What decides which weights go; structured: whole layers, "
                     "heads, neurons or channels go.");
    flags->Add("sparsity", &sparsity_, "SHARE",
               "Share of the weights that go, in [0, 1).");
    flags->Add("pattern", &pattern_, "N:M",
               "Instead: N of each M consecutive inputs are kept.");
    flags->AddChoice(
        "allocation", &allocation_, {"uniform", "owl", "budget"},
        "How much each layer gives with --sparsity: the same; less "
        "where a block's weights have outliers; or so that all "
        "together lose least, which is measured.");
    flags->Add("scheme", &scheme_, "SCHEME",
               "Quantizes what is left in the same run; with sparsegpt. "
               "Schemes are those of quantize.");
    calibration_.DeclareText(/*required=*/false, flags);
    calibration_.DeclareRun(flags);
    flags->Add("ignore", &ignore_, "REGEX",
               "Keeps layers whose name contains a match; --sparsity is the "
               "share of the others.");
    flags->Add("dry_run", &dry_run_, "", "Prints the plan and stops.");
    structured_.Declare(flags);
  }
  absl::Status Check(const FlagTable& flags) override {
    QEFF_RETURN_IF_ERROR(structured_.CheckMethod(method_, flags));
    QEFF_RETURN_IF_ERROR(calibration_.CheckStrict());
    QEFF_RETURN_IF_ERROR(calibration_.CheckSample());
    if (method_ == "structured") return absl::OkStatus();
    QEFF_RETURN_IF_ERROR(CheckFlags().status());
    if (scheme_.empty()) return absl::OkStatus();
    const absl::Status scheme = ParseQuantScheme(scheme_).status();
    return scheme.ok() ? scheme : FlagError("scheme", scheme);
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    if (method_ == "structured") {
      return structured_.Run(model_, calibration_, output_, env);
    }
    QEFF_ASSIGN_OR_RETURN(const PruneOptions options, CheckFlags());
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                          LoadTransformer(model_));
    QEFF_ASSIGN_OR_RETURN(PrunePlan plan, PlanPruning(model->checkpoint(),
                                                      model->map(), options));
    absl::optional<TokenSample> sample;
    if (calibration_.has_text()) {
      QEFF_ASSIGN_OR_RETURN(sample, calibration_.Sample(*model));
      if (!dry_run_) {
        QEFF_RETURN_IF_ERROR(calibration_.CheckModel(model, *sample, env));
      }
    }
    QEFF_RETURN_IF_ERROR(Allocate(model, sample, env, &plan));
    std::fprintf(env.out, "%s", FormatPrunePlan(plan).c_str());
    std::fflush(env.out);
    Json json = {{"method", std::string(PruneMethodName(plan.method))},
                 {"pattern", SparsityPatternName(plan.pattern)},
                 {"weights", plan.Weights()},
                 {"removed", plan.Removed()},
                 {"output", dry_run_ ? "" : output_}};
    if (!scheme_.empty()) {
      QEFF_RETURN_IF_ERROR(PruneAndQuantize(*model, plan, sample, env, &json));
    } else if (!dry_run_) {
      QEFF_RETURN_IF_ERROR(Prune(*model, plan, sample, env, &json));
    }
    if (!dry_run_) std::fprintf(env.out, "wrote %s\n", output_.c_str());
    return json;
  }

 private:
  absl::StatusOr<PruneOptions> CheckFlags() {
    PruneOptions options;
    // AddChoice has checked the name.
    QEFF_ASSIGN_OR_RETURN(options.method, ParsePruneMethod(method_));
    if (sparsity_.empty() == pattern_.empty()) {
      return UsageError("one of --sparsity and --pattern is required");
    }
    const std::string flag = sparsity_.empty() ? "pattern" : "sparsity";
    const std::string text = sparsity_.empty() ? pattern_ : sparsity_;
    const auto pattern = ParseSparsityPattern(text);
    if (!pattern.ok()) return FlagError(flag, pattern.status());
    if (pattern->grouped() != sparsity_.empty()) {
      return UsageError(absl::StrCat(
          "--", flag, "=", text,
          ": a share belongs to --sparsity, and N:M to --pattern"));
    }
    options.pattern = *pattern;
    options.ignore = ignore_;
    if (!ignore_.empty()) {
      const absl::Status status = NamePattern::Compile(ignore_).status();
      if (!status.ok()) return FlagError("ignore", status);
    }
    const bool allocates = allocation_ != "uniform";
    if (allocates && pattern->grouped()) {
      return UsageError(absl::StrCat("--allocation=", allocation_,
                                     ": every layer gives the same with "
                                     "--pattern"));
    }
    if (allocates && !calibration_.has_text()) {
      return UsageError(
          absl::StrCat("--allocation=", allocation_, " needs --calibration"));
    }
    const bool calibrates = options.method != PruneMethod::kMagnitude;
    if (calibrates && !calibration_.has_text() && !dry_run_) {
      return UsageError(
          absl::StrCat("--method=", method_, " needs --calibration"));
    }
    if (!calibrates &&
        ((calibration_.has_text() && !allocates) || calibration_.has_run())) {
      return UsageError(
          "--memory_limit, --resume and --restart have no meaning with "
          "--method=magnitude, and --calibration only with --allocation");
    }
    if (!scheme_.empty() && options.method != PruneMethod::kSparseGpt) {
      return UsageError(
          "--scheme needs --method=sparsegpt; with others, quantize the pruned "
          "model");
    }
    QEFF_RETURN_IF_ERROR(calibration_.CheckRun());
    return options;
  }

  absl::Status Allocate(const std::shared_ptr<const Transformer>& model,
                        const absl::optional<TokenSample>& sample,
                        const CommandEnv& env, PrunePlan* plan) const {
    // AddChoice has checked the name.
    QEFF_ASSIGN_OR_RETURN(const SparsityAllocation allocation,
                          ParseSparsityAllocation(allocation_));
    if (allocation == SparsityAllocation::kUniform) return absl::OkStatus();
    const InterruptScope interrupt;
    absl::optional<Progress> progress;
    SensitivityOptions options;
    if (calibration_.limits_memory())
      options.scratch_path = output_ + ".scratch";
    options.check = [&] { return interrupt.Check(); };
    options.progress = [&](int64_t done, int64_t total) {
      if (!progress.has_value()) progress.emplace("allocate", total);
      progress->Advance(done - progress->done());
    };
    return AllocateSparsity(model, allocation, *sample, options, plan,
                            *env.pool);
  }

  // What all runs have in common; `progress` must outlive the run.
  void SetRun(const InterruptScope& interrupt, const CommandEnv& env,
              int64_t tokens, absl::optional<Progress>* progress,
              CalibratedRunOptions* options) const {
    calibration_.Apply(options);
    options->check = [&interrupt] { return interrupt.Check(); };
    options->planned = [&env, tokens](const RunEstimate& estimate) {
      std::fprintf(env.out, "%s", FormatEstimate(estimate, tokens).c_str());
      std::fflush(env.out);
    };
    options->progress = [progress](int64_t done, int64_t steps) {
      if (!progress->has_value()) progress->emplace("prune", steps);
      (*progress)->Advance(done - (*progress)->done());
    };
  }

  absl::Status Prune(const Transformer& model, const PrunePlan& plan,
                     const absl::optional<TokenSample>& sample,
                     const CommandEnv& env, Json* json) const {
    const InterruptScope interrupt;
    absl::optional<Progress> progress;
    PruneResult result;
    if (plan.method == PruneMethod::kMagnitude) {
      QEFF_ASSIGN_OR_RETURN(
          result, PruneByMagnitude(
                      model, plan, output_, [&] { return interrupt.Check(); },
                      *env.pool));
    } else {
      PruneRunOptions options;
      SetRun(interrupt, env, sample->tokens, &progress, &options);
      QEFF_ASSIGN_OR_RETURN(
          result,
          PruneCalibrated(model, plan, *sample, output_, options, *env.pool));
    }
    progress.reset();
    std::fprintf(env.out, "%s%s", FormatPruneReport(result.layers).c_str(),
                 SparserNote(plan, result.layers).c_str());
    Json layers = Json::array();
    for (const PruneReport& layer : result.layers) {
      layers.push_back(layer.ToJson());
    }
    (*json)["layers"] = std::move(layers);
    (*json)["warning"] = result.estimate.warning;
    (*json)["seconds"] = TimesJson(result.times);
    return absl::OkStatus();
  }

  absl::Status PruneAndQuantize(const Transformer& model, const PrunePlan& plan,
                                const absl::optional<TokenSample>& sample,
                                const CommandEnv& env, Json* json) const {
    QuantizeOptions quantize;
    QEFF_ASSIGN_OR_RETURN(quantize.scheme, ParseQuantScheme(scheme_));
    quantize.ignore = ignore_;
    QEFF_ASSIGN_OR_RETURN(
        QuantizePlan quantized,
        PlanQuantization(model.checkpoint(), model.map(), quantize));
    quantized.config["sparsity"] = plan.config.at("sparsity");
    std::fprintf(env.out, "%s", FormatPlan(quantized).c_str());
    std::fflush(env.out);
    if (dry_run_) return absl::OkStatus();
    const InterruptScope interrupt;
    absl::optional<Progress> progress;
    CalibratedQuantizeOptions options;
    SetRun(interrupt, env, sample->tokens, &progress, &options);
    options.solver.pruner = SparseGptRowPruner(plan, {}, *env.pool);
    QEFF_ASSIGN_OR_RETURN(const CalibratedQuantizeResult result,
                          QuantizeCalibrated(model, quantized, *sample, output_,
                                             options, *env.pool));
    progress.reset();
    if (result.was_complete) return absl::OkStatus();
    std::fprintf(env.out, "%s%s", FormatReport(result.layers).c_str(),
                 FormatTimes(result).c_str());
    AddResult(result, json);
    return absl::OkStatus();
  }

  std::string model_;
  std::string output_;
  std::string method_ = "sparsegpt";
  std::string sparsity_;
  std::string pattern_;
  std::string allocation_ = "uniform";
  std::string scheme_;
  CalibrationFlags calibration_;
  std::string ignore_;
  bool dry_run_ = false;
  PruneStructuredFlags structured_;
};

}  // namespace

std::unique_ptr<Command> MakePruneCommand() {
  return std::make_unique<PruneCommand>();
}

}  // namespace qeff
