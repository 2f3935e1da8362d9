// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/budget.h"
#include "qeff/quant/calibrated_quantize.h"
#include "qeff/quant/format_plan.h"
#include "qeff/quant/observer.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/quantize_report.h"
#include "qeff/quant/rotation_plan.h"
#include "qeff/util/name_pattern.h"
#include "qeff/util/partial_folder.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/calibration_flags.h"
#include "tools/commands/commands.h"
#include "tools/commands/quantize_algorithm.h"
#include "tools/commands/quantize_budget.h"
#include "tools/commands/quantize_limit.h"
#include "tools/commands/quantize_text.h"
#include "tools/commands/quantize_write.h"
#include "tools/commands/rotated_model.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

// A flag's value that is not what it should be.
absl::Status FlagError(absl::string_view flag, const absl::Status& status) {
  return UsageError(absl::StrCat("--", flag, ": ", status.message()));
}

class QuantizeCommand : public Command {
 public:
  absl::string_view name() const override { return "quantize"; }
  absl::string_view summary() const override {
    return "Writes a model with integer weights.";
  }
  absl::string_view description() const override {
    return "Quantizes the linear layers of the blocks and copies the rest. "
           "The plan, with the bits per weight of every tensor, is printed "
           "before work starts. The output is a model folder in "
           "compressed-tensors layout where that can hold every layer, and in "
           "qeff's own layout otherwise; every command reads both.\n\n"
           "Symmetric scales below 8 bits come from the element of largest "
           "magnitude with its sign, so that the outermost code is used; "
           "--scale_rule=absmax is the usual rule.\n\n"
           "With calibration the blocks are quantized one after the other, "
           "each on what the quantized blocks before it give. A finished block "
           "is on the disk; a run that was ended, by whatever, goes on with "
           "--resume and writes the same bytes.";
  }
  absl::string_view examples() const override {
    return "quantize --model=llama --output=small --scheme=int4_g128\n"
           "quantize --model=llama --output=small --scheme=int4_g32 "
           "--algorithm=gptq --calibration=text.txt\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR", "The model's folder.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
    flags->Add("scheme", &scheme_, "SCHEME", SchemeHelp());
    flags->Add("budget", &budget_, "BUDGET",
               "Gives each group of layers (q, k, v; o; gate, up; down) the "
               "scheme that keeps the loss of all least within 4.25bpw, bits a "
               "weight of the blocks' layers, or 600MB, of all tensors. "
               "--scheme may then list what to choose from, with commas. What "
               "a scheme loses is measured on --calibration.");
    flags->Add("algorithm", &algorithm_name_, "ALGORITHM",
               QuantizeAlgorithmHelp());
    flags->Add("iterations", &iterations_, "N",
               "Steps that autoround takes in each block.");
    flags->Add("time_limit", &time_limit_, "DURATION",
               "As 90s or 10m: best leaves out what its estimate says would "
               "take longer, down to mse. Without it best leaves autoround out "
               "for more than 30 million weights in blocks.");
    flags->AddChoice("observer", &observer_, {"mse", "percentile", "minmax"},
                     "Where w8a8_static cuts inputs off: for the least squared "
                     "error, at 99.99 % of them, or nowhere.");
    calibration_.DeclareText(/*required=*/false, flags);
    calibration_.DeclareRun(flags);
    flags->Add("asymmetric", &asymmetric_, "",
               "Gives every group a zero point.");
    flags->AddChoice("scale_rule", &scale_rule_, {"signed_max", "absmax"},
                     "Where symmetric scales come from.");
    flags->Add("lm_head", &lm_head_, "SCHEME",
               "Quantizes lm_head too; a tied one gets a copy of its own.");
    flags->Add("ignore", &ignore_, "REGEX",
               "Keeps layers whose name contains a match.");
    flags->Add("skip_bad_tensors", &skip_bad_tensors_, "",
               "Keeps layers with a weight that is NaN or infinite, and rounds "
               "those that get such inputs, instead of ending with an error.");
    flags->AddChoice("layout", &layout_, {"auto", "compressed-tensors", "qeff"},
                     "Layout of the folder; compressed-tensors keeps layers "
                     "that it cannot hold.");
    flags->Add("dry_run", &dry_run_, "", "Prints the plan and stops.");
  }
  absl::Status Check(const FlagTable&) override {
    QEFF_RETURN_IF_ERROR(CheckFlags());
    QEFF_ASSIGN_OR_RETURN(const std::vector<QuantScheme> schemes, Schemes());
    return Options(schemes).status();
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const std::vector<QuantScheme> schemes, Schemes());
    QEFF_ASSIGN_OR_RETURN(QuantizeOptions options, Options(schemes));
    if (Calibrates(algorithm_) && !dry_run_) {
      QEFF_RETURN_IF_ERROR(
          PartialFolder::Check(output_, RunOptions().unfinished));
    }
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> original,
                          LoadTransformer(model_));
    absl::optional<TokenSample> sample;
    if (calibration_.has_text()) {
      QEFF_ASSIGN_OR_RETURN(sample, calibration_.Sample(*original));
      if (!dry_run_) {
        QEFF_RETURN_IF_ERROR(calibration_.CheckModel(original, *sample, env));
      }
    }
    std::unique_ptr<RotatedModel> rotated;
    Json rotation;
    if (algorithm_.rotate) {
      QEFF_ASSIGN_OR_RETURN(rotated,
                            Rotate(*original, options, env, &rotation));
    }
    const std::shared_ptr<const Transformer> model =
        rotated != nullptr ? rotated->model() : original;
    const Checkpoint& checkpoint = model->checkpoint();
    if (!budget_.empty()) {
      QEFF_ASSIGN_OR_RETURN(const Budget budget, ParseBudget(budget_));
      QEFF_RETURN_IF_ERROR(
          SpendBudget(model, budget, schemes, *sample,
                      calibration_.limits_memory() ? output_ + ".scratch" : "",
                      env, &options));
    }
    QEFF_ASSIGN_OR_RETURN(QuantizePlan plan,
                          PlanQuantization(checkpoint, model->map(), options));
    if (rotated != nullptr) RestoreOriginal(original->checkpoint(), &plan);
    std::fprintf(env.out, "%s", FormatPlan(plan).c_str());
    std::fflush(env.out);
    Json json = PlanJson(plan);
    std::fprintf(stderr, "%s", SkippedWarning(plan).c_str());
    if (algorithm_.rotate) json["rotation"] = rotation;
    json["output"] = dry_run_ ? "" : output_;
    if (dry_run_) return json;

    QEFF_ASSIGN_OR_RETURN(const QuantizeAlgorithm algorithm,
                          Steps(*model, plan, sample, env));
    plan.rounding = algorithm.rounding;
    if (!Calibrates(algorithm)) {
      QEFF_RETURN_IF_ERROR(
          WriteQuantized(checkpoint, plan, output_, *env.pool));
    } else {
      QEFF_RETURN_IF_ERROR(
          Calibrate(*model, plan, *sample, algorithm, env, &json));
    }
    std::fprintf(env.out, "wrote %s\n", output_.c_str());
    return json;
  }

 private:
  // Whether text has a meaning.
  bool Calibrates(const QuantizeAlgorithm& algorithm) const {
    // A budget has a list of schemes.
    for (const absl::string_view name : absl::StrSplit(scheme_, ',')) {
      const auto scheme = ParseQuantScheme(name);
      if (scheme.ok() && scheme->inputs == InputCodes::kStatic) return true;
    }
    return algorithm.calibrates();
  }

  absl::Status CheckFlags() {
    const auto algorithm = ParseQuantizeAlgorithm(algorithm_name_);
    if (!algorithm.ok()) return FlagError("algorithm", algorithm.status());
    algorithm_ = *algorithm;
    QEFF_RETURN_IF_ERROR(calibration_.CheckStrict());
    if (iterations_ < 1) {
      return UsageError("--iterations: expected at least 1");
    }
    if (scheme_.empty() && budget_.empty()) {
      return UsageError("--scheme or --budget is required");
    }
    if (skip_bad_tensors_ && (algorithm_.rotate || algorithm_.autoround)) {
      return UsageError("--skip_bad_tensors excludes rotate and autoround");
    }
    if (!budget_.empty()) {
      const absl::Status status = ParseBudget(budget_).status();
      if (!status.ok()) return FlagError("budget", status);
      if (!calibration_.has_text()) {
        return UsageError("--budget needs --calibration");
      }
    }
    QEFF_ASSIGN_OR_RETURN(limit_, ParseTimeLimit(time_limit_, algorithm_.best));
    if (!Calibrates(algorithm_)) {
      if ((!calibration_.has_text() || !budget_.empty()) &&
          !calibration_.has_run()) {
        return absl::OkStatus();
      }
      return UsageError(
          "--memory_limit, --resume and --restart have no meaning with "
          "--algorithm=rtn or mse, and --calibration only with --budget");
    }
    if (!calibration_.has_text() && !dry_run_) {
      return UsageError(absl::StrCat("--scheme=", scheme_, " --algorithm=",
                                     algorithm_name_, " needs --calibration"));
    }
    QEFF_RETURN_IF_ERROR(calibration_.CheckSample());
    return calibration_.CheckRun();
  }

  // Null where a plan is all that is wanted, which needs no weights.
  absl::StatusOr<std::unique_ptr<RotatedModel>> Rotate(
      const Transformer& model, const QuantizeOptions& options,
      const CommandEnv& env, Json* json) const {
    QEFF_ASSIGN_OR_RETURN(
        const QuantizePlan plan,
        PlanQuantization(model.checkpoint(), model.map(), options));
    QEFF_ASSIGN_OR_RETURN(const RotationPlan rotation,
                          RotatedModel::Plan(model, plan, calibration_.seed()));
    std::fprintf(env.out, "%s", FormatRotation(rotation).c_str());
    *json = RotationJson(rotation);
    if (dry_run_ && budget_.empty()) return nullptr;
    return RotatedModel::Make(model, rotation, output_, plan.BytesAfter(), env);
  }

  // But for the steps.
  CalibratedQuantizeOptions RunOptions() const {
    CalibratedQuantizeOptions options;
    options.allow_bad_inputs = skip_bad_tensors_;
    calibration_.Apply(&options);
    return options;
  }

  // The algorithm that is run.
  absl::StatusOr<QuantizeAlgorithm> Steps(
      const Transformer& model, const QuantizePlan& plan,
      const absl::optional<TokenSample>& sample, const CommandEnv& env) const {
    QuantizeAlgorithm algorithm = WithBestSteps(algorithm_, model, plan);
    if (skip_bad_tensors_) algorithm.autoround = false;
    if (!algorithm_.best) return algorithm;
    return FitTimeLimit(algorithm, limit_, iterations_, model, plan, *sample,
                        output_, RunOptions(), env);
  }

  absl::Status Calibrate(const Transformer& model, const QuantizePlan& plan,
                         const TokenSample& sample,
                         const QuantizeAlgorithm& algorithm,
                         const CommandEnv& env, Json* json) const {
    const InterruptScope interrupt;
    absl::optional<Progress> progress;
    CalibratedQuantizeOptions options = RunOptions();
    SetSteps(algorithm, iterations_, &options);
    // AddChoice has checked the name.
    QEFF_ASSIGN_OR_RETURN(options.solver.observer, ParseObserver(observer_));
    options.check = [&] { return interrupt.Check(); };
    options.planned = [&](const RunEstimate& estimate) {
      std::fprintf(env.out, "%s",
                   FormatEstimate(estimate, sample.tokens).c_str());
      std::fflush(env.out);
    };
    options.progress = [&](int64_t done, int64_t steps) {
      if (!progress.has_value()) progress.emplace("quantize", steps);
      progress->Advance(done - progress->done());
    };
    QEFF_ASSIGN_OR_RETURN(
        const CalibratedQuantizeResult result,
        QuantizeCalibrated(model, plan, sample, output_, options, *env.pool));
    progress.reset();
    if (result.was_complete) return absl::OkStatus();
    std::fprintf(env.out, "%s%s%s", FormatReport(result.layers).c_str(),
                 FormatBlocks(result.blocks).c_str(),
                 FormatTimes(result).c_str());
    std::fprintf(stderr, "%s", BadInputsWarning(result.layers).c_str());
    AddResult(result, json);
    return absl::OkStatus();
  }

  absl::StatusOr<QuantScheme> Scheme(absl::string_view flag,
                                     const std::string& name) const {
    absl::StatusOr<QuantScheme> scheme = ParseQuantScheme(name);
    if (!scheme.ok()) return FlagError(flag, scheme.status());
    if (asymmetric_ &&
        (!scheme->integers() || scheme->inputs != InputCodes::kNone)) {
      return UsageError(absl::StrCat("--asymmetric has no meaning with --",
                                     flag, "=", name,
                                     ", which has no zero points"));
    }
    scheme->symmetric = !asymmetric_;
    // AddChoice has checked the name.
    QEFF_ASSIGN_OR_RETURN(scheme->scale_rule, ParseScaleRule(scale_rule_));
    return scheme;
  }

  // One, or with a budget those to choose from.
  absl::StatusOr<std::vector<QuantScheme>> Schemes() const {
    std::vector<QuantScheme> schemes;
    std::vector<std::string> names = {scheme_};
    if (!budget_.empty()) {
      const std::string list = scheme_.empty() ? kBudgetSchemes : scheme_;
      names = absl::StrSplit(list, ',');
    }
    for (const std::string& name : names) {
      QEFF_ASSIGN_OR_RETURN(const QuantScheme scheme, Scheme("scheme", name));
      schemes.push_back(scheme);
    }
    return schemes;
  }

  absl::StatusOr<QuantizeOptions> Options(
      const std::vector<QuantScheme>& schemes) const {
    QuantizeOptions options;
    options.scheme = schemes[0];
    if (!lm_head_.empty()) {
      QEFF_ASSIGN_OR_RETURN(options.lm_head, Scheme("lm_head", lm_head_));
    }
    options.rounding = algorithm_.rounding;
    options.skip_bad_tensors = skip_bad_tensors_;
    options.ignore = ignore_;
    if (!ignore_.empty()) {
      const absl::Status status = NamePattern::Compile(ignore_).status();
      if (!status.ok()) return FlagError("ignore", status);
    }
    if (layout_ == "compressed-tensors") {
      options.layout = QuantizedLayout::kCompressedTensors;
    } else if (layout_ == "qeff") {
      options.layout = QuantizedLayout::kQeff;
    }
    return options;
  }

  std::string model_;
  std::string output_;
  std::string scheme_;
  std::string budget_;
  std::string algorithm_name_ = "rtn";
  QuantizeAlgorithm algorithm_;
  int iterations_ = 200;
  std::string time_limit_;
  absl::Duration limit_;  // it, read
  std::string observer_ = "mse";
  CalibrationFlags calibration_;
  std::string scale_rule_ = "signed_max";
  std::string lm_head_;
  std::string ignore_;
  std::string layout_ = "auto";
  bool asymmetric_ = false;
  bool skip_bad_tensors_ = false;
  bool dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeQuantizeCommand() {
  return std::make_unique<QuantizeCommand>();
}

}  // namespace qeff
