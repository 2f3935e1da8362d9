// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/optimize_report.h"

#include <algorithm>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/io/checkpoint.h"
#include "qeff/kernels/limits/dispatched_target.h"
#include "qeff/pipeline/compare_models.h"
#include "qeff/pipeline/layer_sensitivity.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/count_parameters.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"
#include "qeff/util/text_file.h"
#include "tools/commands/machine.h"
#include "tools/commands/text_tokens.h"
#include "tools/interrupt.h"
#include "tools/version.h"

namespace qeff {
namespace {

constexpr int kSampleTokens = 64;
constexpr int64_t kActivationTokens = 256;
constexpr int64_t kSequenceLength = 256;
constexpr int kPromptWords = 8;
constexpr size_t kPromptBytes = 80;
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

// Pieces of a text, in sequences of at most kSequenceLength.
absl::StatusOr<TokenSample> SampleOf(const Transformer& model,
                                     const std::string& text, int64_t tokens) {
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                        LoadTokenizer(model));
  SampleOptions options;
  options.tokens = tokens;
  options.sequence_length =
      std::min<int64_t>(kSequenceLength, model.spec().max_positions);
  return SampleTextTokens(text, *tokenizer, options);
}

// What the recipe rounds to, or the default of `qeff sensitivity`.
QuantScheme SchemeOf(const RecipeResult& result) {
  QuantScheme scheme = ParseQuantScheme("int4_g128").value();
  for (const StepReport& step : result.steps) {
    if (step.parameters == 0) continue;  // made no model
    for (absl::string_view flag : step.flags) {
      if (!absl::ConsumePrefix(&flag, "--scheme=")) continue;
      const auto parsed = ParseQuantScheme(flag);  // not a budget's list
      if (parsed.ok()) scheme = *parsed;
    }
  }
  return scheme;
}

// Of the model that was given, where there is text; nothing of a model that
// was quantized before or has weights that are not finite.
absl::StatusOr<Json> Sensitivities(
    const std::shared_ptr<const Transformer>& model, const RecipeInputs& inputs,
    const RecipeResult& result, ThreadPool* pool) {
  const std::string& text =
      inputs.calibration.empty() ? inputs.text : inputs.calibration;
  if (text.empty() || model->quantization().has_value()) return Json::array();
  QEFF_ASSIGN_OR_RETURN(const TokenSample sample,
                        SampleOf(*model, text, LayerSensitivityTokens(*model)));
  const InterruptScope interrupt;
  auto measured = LayerSensitivities(
      model, SchemeOf(result), sample, [&] { return interrupt.Check(); }, pool);
  if (absl::IsDataLoss(measured.status())) return Json::array();
  return measured;
}

// The first words of the held-out text; empty where it begins with none.
absl::StatusOr<std::string> PromptOf(const std::string& path) {
  QEFF_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  absl::string_view prompt = absl::StripLeadingAsciiWhitespace(text);
  prompt = prompt.substr(0, prompt.find_first_of("\r\n"));
  size_t end = 0;
  for (int word = 0; word < kPromptWords && end < prompt.size(); ++word) {
    end = std::min(prompt.find(' ', end + 1), prompt.size());
  }
  // Not every language has spaces.
  end = std::min(end, kPromptBytes);
  while (end < prompt.size() && end > 0 && (prompt[end] & 0xC0) == 0x80) --end;
  return std::string(prompt.substr(0, end));
}

Json Environment(const ThreadPool& pool) {
  return {{"qeff", kQeffVersion},
          {"cpu", ProcessorName()},
          {"kernels", DispatchedTargetName()},
          {"threads", pool.num_threads()},
          {"processors", NumAvailableProcessors()},
          {"memory_bytes", Memory().total_bytes}};
}

}  // namespace

absl::StatusOr<Json> OptimizeReport(const RecipeInputs& inputs,
                                    const std::string& recipe,
                                    const RecipeResult& result,
                                    std::vector<std::string> prompts,
                                    const RecipeRunOptions& options,
                                    ThreadPool* pool) {
  if (prompts.empty() && !inputs.text.empty()) {
    QEFF_ASSIGN_OR_RETURN(const std::string prompt, PromptOf(inputs.text));
    if (!prompt.empty()) prompts.push_back(prompt);
  }
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
  std::vector<int32_t> tokens;
  if (!inputs.text.empty()) {
    QEFF_ASSIGN_OR_RETURN(const TokenSample sample,
                          SampleOf(*before, inputs.text, kActivationTokens));
    tokens = sample.sequences[0];
  }
  QEFF_ASSIGN_OR_RETURN(Json report,
                        CompareModels(before, after, tokens, pool));
  QEFF_ASSIGN_OR_RETURN(report["sensitivities"],
                        Sensitivities(before, inputs, result, pool));
  AddLosses(LossesOf(result), &report["layers"]);
  report["model"] = inputs.model;
  report["recipe"] = recipe;
  report["environment"] = Environment(*pool);
  report["steps"] = steps;
  report["models"] = models;
  report["loss_curves"] = curves;
  report["samples"] = samples;
  return report;
}

}  // namespace qeff
