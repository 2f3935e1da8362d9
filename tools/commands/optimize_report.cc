// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/optimize_report.h"

#include "absl/strings/str_cat.h"
#include "qeff/io/checkpoint.h"
#include "qeff/transformer/count_parameters.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/status.h"
#include "tools/commands/machine.h"
#include "tools/version.h"

namespace qeff {
namespace {

constexpr int kSampleTokens = 64;

Json StepJson(const StepReport& step) {
  Json json{{"name", step.name},
            {"kind", step.command},
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

// "q" of "model.layers.3.self_attn.q_proj".
std::string RoleOf(const std::string& module) {
  return module.substr(module.rfind('.') + 1);
}

// The number in "model.layers.3.self_attn.q_proj"; -1 without one.
int64_t BlockOf(const std::string& module) {
  for (size_t i = 0; i + 1 < module.size(); ++i) {
    if (module[i] != '.' || module[i + 1] < '0' || module[i + 1] > '9')
      continue;
    int64_t block = 0;
    for (size_t j = i + 1; j < module.size() && module[j] != '.'; ++j) {
      block = block * 10 + (module[j] - '0');
    }
    return block;
  }
  return -1;
}

void AddLayers(const StepReport& step, Json* layers) {
  for (const Json& layer : step.result.value("layers", Json::array())) {
    if (!layer.contains("module") || !layer.contains("loss")) continue;
    const std::string module = layer["module"];
    Json entry{{"step", step.name},
               {"name", module},
               {"role", RoleOf(module)},
               {"block", BlockOf(module)},
               {"loss", layer["loss"]}};
    if (layer.contains("rounding_loss")) {
      entry["rounding_loss"] = layer["rounding_loss"];
    }
    if (layer.contains("bits_per_weight")) {
      entry["bits"] = layer["bits_per_weight"];
    }
    layers->push_back(entry);
  }
}

}  // namespace

absl::StatusOr<Json> OptimizeReport(const RecipeInputs& inputs,
                                    const std::string& recipe,
                                    const RecipeResult& result,
                                    const std::vector<std::string>& prompts,
                                    const RecipeRunOptions& options) {
  Json steps = Json::array(), models = Json::array(), layers = Json::array();
  QEFF_ASSIGN_OR_RETURN(StepReport current, InputReport(inputs.model));
  for (const StepReport& step : result.steps) {
    steps.push_back(StepJson(step));
    AddLayers(step, &layers);
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
  return Json{
      {"model", inputs.model},
      {"recipe", recipe},
      {"environment", {{"qeff", kQeffVersion}, {"cpu", ProcessorName()}}},
      {"steps", steps},
      {"models", models},
      {"layers", layers},
      {"samples", samples}};
}

}  // namespace qeff
