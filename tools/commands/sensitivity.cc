// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/sensitivity.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/prune/structured/importance.h"
#include "qeff/prune/structured/removal_sensitivity.h"
#include "qeff/quant/layer_groups.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/calibration_flags.h"
#include "tools/commands/commands.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

std::string FormatList(const std::vector<double>& values) {
  std::string text;
  for (const double value : values)
    absl::StrAppendFormat(&text, " %9.6f", value);
  return text;
}

class SensitivityCommand : public Command {
 public:
  absl::string_view name() const override { return "sensitivity"; }
  absl::string_view summary() const override {
    return "Says what removing or quantizing each part of a model costs.";
  }
  absl::string_view description() const override {
    return "Each part is changed alone, and the KL divergence of the whole "
           "model from the original is measured on text, in nats a token: for "
           "each layer what it costs to remove it, one group of heads that "
           "share keys and values, or a quarter of the feed-forward's neurons, "
           "the least active first; and what it costs to quantize the layers "
           "that have the same inputs with each scheme. The first tokens of "
           "the calibration are measured on, as many as half a GiB of hidden "
           "states has room for.";
  }
  absl::string_view examples() const override {
    return "sensitivity --model=llama --calibration=text.txt "
           "--scheme=int4_g128,int8\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR", "The model's folder.");
    calibration_.DeclareText(/*required=*/true, flags);
    flags->Add("scheme", &schemes_, "LIST",
               "Schemes of `qeff quantize` with commas between them; empty: "
               "only removals are measured.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const std::vector<QuantScheme> schemes, Schemes());
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                          LoadTransformer(model_));
    if (model->quantization().has_value()) {
      return InvalidInputError(
          model->checkpoint().config_path(),
          ": the model is quantized already; measure the original");
    }
    QEFF_ASSIGN_OR_RETURN(const TokenSample sample,
                          calibration_.Sample(*model));
    QEFF_RETURN_IF_ERROR(calibration_.CheckModel(model, sample, env));
    const InterruptScope interrupt;
    check_ = [&] { return interrupt.Check(); };
    Json json;
    QEFF_RETURN_IF_ERROR(Removals(model, sample, env, &json));
    if (!schemes.empty()) {
      QEFF_RETURN_IF_ERROR(Quantize(model, schemes, sample, env, &json));
    }
    return json;
  }

 private:
  absl::StatusOr<std::vector<QuantScheme>> Schemes() const {
    std::vector<QuantScheme> schemes;
    if (schemes_.empty()) return schemes;
    for (const std::string& name :
         std::vector<std::string>(absl::StrSplit(schemes_, ','))) {
      const auto scheme = ParseQuantScheme(name);
      if (!scheme.ok()) {
        return UsageError(
            absl::StrCat("--scheme: ", scheme.status().message()));
      }
      schemes.push_back(*scheme);
    }
    return schemes;
  }

  absl::Status Removals(const std::shared_ptr<const Transformer>& model,
                        const TokenSample& sample, const CommandEnv& env,
                        Json* json) const {
    absl::optional<Progress> progress;
    ImportanceOptions calls;
    calls.check = check_;
    calls.progress = [&](int64_t done, int64_t total) {
      if (!progress.has_value()) progress.emplace("importance", total);
      progress->Advance(done - progress->done());
    };
    QEFF_ASSIGN_OR_RETURN(const StructuredImportance importance,
                          MeasureActivations(model, sample, calls, *env.pool));
    progress.reset();
    RemovalOptions options;
    options.calls.check = check_;
    options.calls.progress = [&](int64_t done, int64_t total) {
      if (!progress.has_value()) progress.emplace("removals", total);
      progress->Advance(done - progress->done());
    };
    QEFF_ASSIGN_OR_RETURN(
        const std::vector<LayerSensitivity> layers,
        MeasureRemovals(model, importance, RemovalSample(*model, sample),
                        options, *env.pool));
    progress.reset();
    std::fprintf(env.out,
                 "KL of removing, in nats a token\nlayer     whole | each "
                 "group of heads | quarters of the neurons\n");
    Json list = Json::array();
    for (size_t b = 0; b < layers.size(); ++b) {
      const LayerSensitivity& layer = layers[b];
      std::fprintf(env.out, "%5zu %9.6f |%s |%s\n", b, layer.layer,
                   FormatList(layer.kv_groups).c_str(),
                   FormatList(layer.ffn_slices).c_str());
      list.push_back({{"layer", b},
                      {"kl", layer.layer},
                      {"head_groups_kl", layer.kv_groups},
                      {"ffn_quarters_kl", layer.ffn_slices}});
    }
    (*json)["removals"] = list;
    return absl::OkStatus();
  }

  absl::Status Quantize(const std::shared_ptr<const Transformer>& model,
                        const std::vector<QuantScheme>& schemes,
                        const TokenSample& sample, const CommandEnv& env,
                        Json* json) const {
    QuantizeOptions quantize;
    quantize.scheme = schemes[0];
    QEFF_ASSIGN_OR_RETURN(
        const QuantizePlan plan,
        PlanQuantization(model->checkpoint(), model->map(), quantize));
    QEFF_ASSIGN_OR_RETURN(std::vector<LayerGroup> groups,
                          FindLayerGroups(model->map(), plan, schemes,
                                          plan.QuantizedBitsPerWeight()));
    absl::optional<Progress> progress;
    SensitivityOptions options;
    options.check = check_;
    options.progress = [&](int64_t done, int64_t total) {
      if (!progress.has_value()) progress.emplace("quantizing", total);
      progress->Advance(done - progress->done());
    };
    QEFF_RETURN_IF_ERROR(MeasureSensitivities(model, schemes,
                                              SensitivitySample(*model, sample),
                                              options, &groups, *env.pool));
    progress.reset();
    std::fprintf(env.out,
                 "KL of quantizing, in nats a token; * is measured, the others "
                 "follow from errors of outputs\n");
    Json list = Json::array();
    for (const LayerGroup& group : groups) {
      const char* inputs = InputsName(group.inputs);
      std::fprintf(env.out, "%5d %-8s", static_cast<int>(group.block), inputs);
      Json costs = Json::object();
      for (size_t i = 0; i < group.choices.size(); ++i) {
        const LayerGroup::Choice& choice = group.choices[i];
        const std::string name = QuantSchemeName(schemes[choice.scheme]);
        std::fprintf(env.out, " %s %.6f%s", name.c_str(), choice.cost,
                     i == group.measured ? "*" : "");
        costs[name] = choice.cost;
      }
      std::fprintf(env.out, "\n");
      list.push_back(
          {{"layer", group.block}, {"layers", inputs}, {"kl", costs}});
    }
    (*json)["quantizing"] = list;
    return absl::OkStatus();
  }

  std::string model_, schemes_ = "int4_g128,int8";
  CalibrationFlags calibration_;
  std::function<absl::Status()> check_;
};

}  // namespace

std::unique_ptr<Command> MakeSensitivityCommand() {
  return std::make_unique<SensitivityCommand>();
}

}  // namespace qeff
