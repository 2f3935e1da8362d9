// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/optimize_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/io/checkpoint.h"
#include "qeff/pipeline/compare_models.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/count_parameters.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"
#include "tools/commands/machine.h"
#include "tools/commands/text_tokens.h"
#include "tools/version.h"

namespace qeff {
namespace {

constexpr int kSampleTokens = 64;
constexpr int64_t kActivationTokens = 256;
constexpr uint64_t kMaxMetricsBytes = uint64_t{1} << 30;

Json StepJson(const StepReport& step) {
  Json json{{"name", step.name},
            {"kind", step.command == "eval" ? "evaluate" : step.command},
            {"arguments", step.flags},
            {"hash", step.hash},
            {"from_cache", step.from_cache},
            {"seconds", step.seconds},
            {"peak_bytes", step.peak_bytes},
            {"result", step.result}};
  if (step.bytes != 0) json["bytes"] = step.bytes;
  if (step.parameters != 0) {
    json["parameters"] = step.parameters;
    json["bits_per_weight"] = step.bits_per_weight();
  }
  return json;
}

// The model that was given, as a step that made it would be.
absl::StatusOr<StepReport> InputReport(const std::string& model) {
  StepReport input;
  input.name = "input";
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(model));
  QEFF_ASSIGN_OR_RETURN(const ModelMap map, MapModel(*checkpoint));
  input.bytes = checkpoint->weight_bytes();
  input.parameters = CountParameters(map);
  return input;
}

Json MeasuredModel(const StepReport& model, const Json& measured) {
  Json json{{"name", model.name},
            {"bytes", model.bytes},
            {"parameters", model.parameters},
            {"bits_per_weight", model.bits_per_weight()}};
  for (const char* key :
       {"perplexity", "nll", "kl_mean", "kl_p99", "top1_agreement"}) {
    if (measured.contains(key)) json[key] = measured[key];
  }
  return json;
}

// Losses of the steps' linear layers on the calibration text, by name; of a
// later step if there are several.
Json LossesOf(const RecipeResult& result) {
  Json losses = Json::object();
  for (const StepReport& step : result.steps) {
    for (const Json& layer : step.result.value("layers", Json::array())) {
      if (!layer.contains("module") || !layer.contains("loss")) continue;
      losses[layer["module"].get<std::string>()] = layer;
    }
  }
  return losses;
}

// Adds to each layer what its step said of it.
void AddLosses(const Json& losses, Json* layers) {
  for (Json& layer : *layers) {
    const auto found = losses.find(layer["name"].get<std::string>());
    if (found == losses.end()) continue;
    for (const auto& [from, to] :
         {std::make_pair("loss", "loss"),
          std::make_pair("rounding_loss", "rounding_loss"),
          std::make_pair("bits_per_weight", "bits")}) {
      if (found->contains(from)) layer[to] = (*found)[from];
    }
  }
}

// The metrics of a distillation, as points.
absl::StatusOr<Json> LossCurve(const StepReport& step) {
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadFileToString(step.metrics, kMaxMetricsBytes));
  Json points = Json::array();
  for (const absl::string_view line :
       absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    QEFF_ASSIGN_OR_RETURN(const Json values, ParseJson(line, step.metrics));
    Json point{{"step", values.value("step", int64_t{0})}};
    if (values.contains("loss")) point["loss"] = values["loss"];
    if (values.contains("held_out_loss")) {
      point["held_out"] = values["held_out_loss"];
    }
    points.push_back(point);
  }
  return Json{{"step", step.name}, {"points", points}};
}

// The beginning of the held-out text; nothing without one.
absl::StatusOr<std::vector<int32_t>> SampleOf(const Transformer& model,
                                              const std::string& text) {
  if (text.empty()) return std::vector<int32_t>();
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                        LoadTokenizer(model));
  SampleOptions options;
  options.tokens = options.sequence_length =
      std::min<int64_t>(kActivationTokens, model.spec().max_positions);
  QEFF_ASSIGN_OR_RETURN(const TokenSample sample,
                        SampleTextTokens(text, *tokenizer, options));
  return sample.sequences[0];
}

}  // namespace

absl::StatusOr<Json> OptimizeReport(const RecipeInputs& inputs,
                                    const std::string& recipe,
                                    const RecipeResult& result,
                                    const std::vector<std::string>& prompts,
                                    const RecipeRunOptions& options,
                                    ThreadPool* pool) {
  Json steps = Json::array(), models = Json::array(), curves = Json::array();
  QEFF_ASSIGN_OR_RETURN(StepReport current, InputReport(inputs.model));
  for (const StepReport& step : result.steps) {
    steps.push_back(StepJson(step));
    if (!step.metrics.empty()) {
      QEFF_ASSIGN_OR_RETURN(const Json curve, LossCurve(step));
      curves.push_back(curve);
    }
    if (step.parameters != 0) current = step;
    if (step.command == "eval") {
      models.push_back(MeasuredModel(current, step.result));
    }
  }
  Json samples = Json::array();
  for (const std::string& prompt : prompts) {
    Json sample{{"prompt", prompt}};
    for (const auto& [key, model] : {std::make_pair("before", inputs.model),
                                     std::make_pair("after", result.model)}) {
      QEFF_ASSIGN_OR_RETURN(
          const Json text,
          options.run({"generate", "--model=" + model, "--prompt=" + prompt,
                       absl::StrCat("--max_new_tokens=", kSampleTokens)}));
      sample[key] = text.value("text", "");
    }
    samples.push_back(sample);
  }
  QEFF_ASSIGN_OR_RETURN(const auto before, LoadTransformer(inputs.model));
  QEFF_ASSIGN_OR_RETURN(const auto after, LoadTransformer(result.model));
  QEFF_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                        SampleOf(*before, inputs.text));
  QEFF_ASSIGN_OR_RETURN(Json report,
                        CompareModels(before, after, tokens, pool));
  AddLosses(LossesOf(result), &report["layers"]);
  report["model"] = inputs.model;
  report["recipe"] = recipe;
  report["environment"] = {{"qeff", kQeffVersion}, {"cpu", ProcessorName()}};
  report["steps"] = steps;
  report["models"] = models;
  report["loss_curves"] = curves;
  report["samples"] = samples;
  return report;
}

}  // namespace qeff
