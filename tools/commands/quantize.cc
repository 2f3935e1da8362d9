// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/util/name_pattern.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

constexpr char kSchemes[] =
    "intB with one scale a row, or intB_gN with one scale a group of N weights "
    "of a row: int8, int4_g128, int2_g32, ... B is 2 to 8, N a multiple of 8 "
    "up to 65536.";

// A flag's value that is not what it should be.
absl::Status FlagError(absl::string_view flag, const absl::Status& status) {
  return UsageError(absl::StrCat("--", flag, ": ", status.message()));
}

// The scheme, or what happens instead.
std::string FateName(const PlannedTensor& tensor) {
  if (tensor.quantized()) return QuantSchemeName(tensor.scheme);
  return tensor.action == PlannedTensor::Action::kDrop ? "dropped" : "kept";
}

Json PlanJson(const QuantizePlan& plan) {
  Json tensors = Json::array();
  for (const PlannedTensor& tensor : plan.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"scheme", FateName(tensor)},
                       {"reason", tensor.reason},
                       {"bits_per_weight", tensor.BitsPerWeight()},
                       {"bytes_before", tensor.bytes_before},
                       {"bytes_after", tensor.bytes_after}});
  }
  return Json{{"layout", std::string(QuantizedLayoutName(plan.layout))},
              {"layout_reason", plan.layout_reason},
              {"unties_lm_head", plan.unties_lm_head},
              {"bytes_before", plan.BytesBefore()},
              {"bytes_after", plan.BytesAfter()},
              {"quantized_bits_per_weight", plan.QuantizedBitsPerWeight()},
              {"tensors", tensors}};
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
           "--scale_rule=absmax is the usual rule.";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR", "The model's folder.");
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
    flags->AddRequired("scheme", &scheme_, "SCHEME", kSchemes);
    flags->AddChoice("algorithm", &algorithm_, {"rtn"},
                     "How codes are chosen: rtn rounds to the nearest.");
    flags->Add("asymmetric", &asymmetric_, "",
               "Gives every group a zero point.");
    flags->AddChoice("scale_rule", &scale_rule_, {"signed_max", "absmax"},
                     "Where symmetric scales come from.");
    flags->Add("lm_head", &lm_head_, "SCHEME",
               "Quantizes lm_head too; a tied one gets a copy of its own.");
    flags->Add("ignore", &ignore_, "REGEX",
               "Keeps layers whose name contains a match.");
    flags->AddChoice("layout", &layout_, {"auto", "compressed-tensors", "qeff"},
                     "Layout of the folder; compressed-tensors keeps layers "
                     "that it cannot hold.");
    flags->Add("dry_run", &dry_run_, "", "Prints the plan and stops.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const QuantizeOptions options, Options());
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                          LoadTransformer(model_));
    const Checkpoint& checkpoint = model->checkpoint();
    QEFF_ASSIGN_OR_RETURN(const QuantizePlan plan,
                          PlanQuantization(checkpoint, model->map(), options));
    std::fprintf(env.out, "%s", FormatPlan(plan).c_str());
    std::fflush(env.out);
    Json json = PlanJson(plan);
    json["output"] = dry_run_ ? "" : output_;
    if (dry_run_) return json;

    QEFF_RETURN_IF_ERROR(Write(checkpoint, plan, env.pool));
    std::fprintf(env.out, "wrote %s\n", output_.c_str());
    return json;
  }

 private:
  absl::Status Write(const Checkpoint& checkpoint, const QuantizePlan& plan,
                     ThreadPool* pool) const {
    const InterruptScope interrupt;
    absl::optional<Progress> progress;
    ProgressOptions progress_options;
    progress_options.unit = "B";
    QuantizeRunOptions run;
    run.progress = [&](uint64_t done, uint64_t total) {
      // The total is known once the run has begun.
      if (!progress.has_value()) {
        progress.emplace("quantize", static_cast<int64_t>(total),
                         progress_options);
      }
      progress->Advance(static_cast<int64_t>(done) - progress->done());
      return interrupt.Check().ok();
    };
    const absl::Status status =
        QuantizeCheckpoint(checkpoint, plan, output_, *pool, run);
    return absl::IsCancelled(status) ? interrupt.Check() : status;
  }

  absl::StatusOr<QuantScheme> Scheme(absl::string_view flag,
                                     const std::string& name) const {
    absl::StatusOr<QuantScheme> scheme = ParseQuantScheme(name);
    if (!scheme.ok()) return FlagError(flag, scheme.status());
    scheme->symmetric = !asymmetric_;
    // AddChoice has checked the name.
    QEFF_ASSIGN_OR_RETURN(scheme->scale_rule, ParseScaleRule(scale_rule_));
    return scheme;
  }

  absl::StatusOr<QuantizeOptions> Options() const {
    QuantizeOptions options;
    QEFF_ASSIGN_OR_RETURN(options.scheme, Scheme("scheme", scheme_));
    if (!lm_head_.empty()) {
      QEFF_ASSIGN_OR_RETURN(options.lm_head, Scheme("lm_head", lm_head_));
    }
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
  std::string algorithm_ = "rtn";
  std::string scale_rule_ = "signed_max";
  std::string lm_head_;
  std::string ignore_;
  std::string layout_ = "auto";
  bool asymmetric_ = false;
  bool dry_run_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeQuantizeCommand() {
  return std::make_unique<QuantizeCommand>();
}

}  // namespace qeff
