// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/quantization_config.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "qeff/format/codebook.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/io/config_checks.h"
#include "qeff/io/gptq_awq_config.h"
#include "qeff/io/sparse_24_tensor.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Bounds of what a hostile config can make Find cost.
constexpr size_t kMaxGroups = 1000;
constexpr size_t kMaxTargets = 100'000;
constexpr size_t kMaxPatterns = 256;  // at up to 50 kB each
constexpr int64_t kMaxGroupSize = int64_t{1} << 31;

constexpr char kPatternPrefix[] = "re:";

// Values of "format". That of the folder is kMixed where its groups differ.
constexpr char kPacked[] = "pack-quantized";
constexpr char kSignedBytes[] = "int-quantized";
constexpr char kMixed[] = "mixed-precision";

// How exact a match is.
enum : int { kNoMatch = 0, kClass = 1, kPattern = 2, kName = 3 };

bool IsLinearClass(absl::string_view target) {
  return target == "Linear" || target == "Conv1D";
}

absl::StatusOr<std::vector<std::string>> Strings(const JsonObjectReader& reader,
                                                 const std::string& key) {
  const Json* value = reader.Find(key);
  std::vector<std::string> strings;
  if (value == nullptr) return strings;
  if (!value->is_array() || value->size() > kMaxTargets) {
    return reader.Unexpected(
        key, absl::StrCat("a list of at most ", kMaxTargets, " strings"));
  }
  for (const Json& item : *value) {
    if (!item.is_string()) return reader.Unexpected(key, "a list of strings");
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

// What compressed-tensors calls the format of such weights.
absl::string_view FormatName(const WeightQuantization& weights) {
  return weights.codebook == Codebook::kF8E4M3  ? "float-quantized"
         : weights.codebook == Codebook::kMxfp4 ? "mxfp4-pack-quantized"
         : weights.signed_bytes                 ? kSignedBytes
                                                : kPacked;
}

// The codebook of weights of compressed-tensors' type "float", whose other
// members are read: fp8_e4m3 with a scale a row or tensor, or mxfp4.
absl::StatusOr<Codebook> FloatCodebook(const JsonObjectReader& r,
                                       const WeightQuantization& weights) {
  for (const Codebook codebook : {Codebook::kF8E4M3, Codebook::kMxfp4}) {
    const CodebookFormat& format = FormatOf(codebook);
    const bool grouped = weights.strategy == QuantStrategy::kGroup;
    if (weights.bits == format.bits && weights.symmetric &&
        (grouped ? weights.group_size : 0) == format.group_size) {
      return codebook;
    }
  }
  return UnsupportedKey(r, "type");
}

absl::StatusOr<WeightQuantization> ParseWeights(const JsonObjectReader& r,
                                                QuantizedLayout layout) {
  WeightQuantization weights;
  bool is_float = false;
  if (layout == QuantizedLayout::kQeff) {
    QEFF_ASSIGN_OR_RETURN(const std::string type, r.StringOr("type", "int"));
    const absl::StatusOr<QuantScheme> scheme = ParseQuantScheme(type);
    if (scheme.ok() && !scheme->integers()) {
      return WeightQuantization::FromScheme(*scheme);
    }
    QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "type", {"int"}));
  } else {
    QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "type", {"int", "float"}));
    QEFF_ASSIGN_OR_RETURN(const std::string type, r.StringOr("type", "int"));
    is_float = type == "float";
  }
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "dynamic"));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "block_structure"));
  // "static" is a synonym of "weight": only the order of quantizing differed.
  // What came of "group" is in weight_g_idx.
  QEFF_RETURN_IF_ERROR(
      ExpectOneOf(r, "actorder", {"weight", "static", "group"}));
  QEFF_ASSIGN_OR_RETURN(const int64_t bits, r.Int("num_bits", 1, 64));
  if (bits < kMinQuantBits || bits > kMaxQuantBits) {
    return UnsupportedKey(r, "num_bits");
  }
  weights.bits = static_cast<int>(bits);
  QEFF_ASSIGN_OR_RETURN(weights.symmetric, r.BoolOr("symmetric", true));
  // compressed-tensors derives a missing strategy from group_size.
  const bool grouped = r.Has("group_size") && *r.Find("group_size") != Json(-1);
  QEFF_RETURN_IF_ERROR(
      ExpectOneOf(r, "strategy", {"tensor", "channel", "group"}));
  QEFF_ASSIGN_OR_RETURN(
      const std::string strategy,
      r.StringOr("strategy", grouped               ? "group"
                             : r.Has("group_size") ? "channel"
                                                   : "tensor"));
  weights.strategy = strategy == "group"     ? QuantStrategy::kGroup
                     : strategy == "channel" ? QuantStrategy::kChannel
                                             : QuantStrategy::kTensor;
  if (weights.strategy == QuantStrategy::kGroup) {
    QEFF_ASSIGN_OR_RETURN(weights.group_size,
                          r.Int("group_size", 1, kMaxGroupSize));
  }
  if (weights.strategy == QuantStrategy::kTensor && !weights.symmetric) {
    return absl::UnimplementedError(
        absl::StrCat(r.context(),
                     ": symmetric = false with strategy = \"tensor\" is not "
                     "supported"));
  }
  if (is_float) {
    QEFF_ASSIGN_OR_RETURN(weights.codebook, FloatCodebook(r, weights));
  }
  return weights;
}

// What input_activations says; of a null one, nothing.
absl::StatusOr<InputCodes> ParseInputs(const JsonObjectReader& group) {
  QEFF_ASSIGN_OR_RETURN(const auto found, group.ObjectOr("input_activations"));
  if (!found.has_value() || found->object().empty()) return InputCodes::kNone;
  const JsonObjectReader& r = *found;
  QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "type", {"int"}));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "block_structure"));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "group_size"));
  QEFF_ASSIGN_OR_RETURN(const int64_t bits, r.Int("num_bits", 1, 64));
  if (bits != 8) return UnsupportedKey(r, "num_bits");
  QEFF_ASSIGN_OR_RETURN(const bool symmetric, r.BoolOr("symmetric", true));
  if (!symmetric) return UnsupportedKey(r, "symmetric");
  // "local" is not a bool, and not supported.
  if (r.Has("dynamic") && !r.Find("dynamic")->is_boolean()) {
    return UnsupportedKey(r, "dynamic");
  }
  QEFF_ASSIGN_OR_RETURN(const bool dynamic, r.BoolOr("dynamic", false));
  QEFF_ASSIGN_OR_RETURN(const std::string strategy,
                        r.StringOr("strategy", dynamic ? "token" : "tensor"));
  if (strategy != (dynamic ? "token" : "tensor")) {
    return UnsupportedKey(r, "strategy");
  }
  return dynamic ? InputCodes::kPerToken : InputCodes::kStatic;
}

// `format`: that of the whole folder.
absl::StatusOr<QuantizationConfig::Group> ParseGroup(
    const Json& json, QuantizedLayout layout, const std::string& format,
    const std::string& context) {
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader r,
                        JsonObjectReader::Create(json, context));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "output_activations"));
  QuantizationConfig::Group group;
  QEFF_ASSIGN_OR_RETURN(group.targets, Strings(r, "targets"));
  QEFF_ASSIGN_OR_RETURN(const auto weights, r.ObjectOr("weights"));
  if (!weights.has_value()) return r.Unexpected("weights", "an object");
  QEFF_ASSIGN_OR_RETURN(group.weights, ParseWeights(*weights, layout));
  QEFF_ASSIGN_OR_RETURN(group.weights.inputs, ParseInputs(r));
  const bool integers =
      !group.weights.ggml.has_value() && !group.weights.codebook.has_value();
  if (!integers && group.weights.inputs != InputCodes::kNone) {
    return UnsupportedKey(*weights, "type");
  }
  QEFF_ASSIGN_OR_RETURN(const std::string own, r.StringOr("format", format));
  group.weights.signed_bytes = integers && own == kSignedBytes;
  if (group.weights.signed_bytes && group.weights.bits != 8) {
    return UnsupportedKey(*weights, "num_bits");
  }
  QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "format", {FormatName(group.weights)}));
  return group;
}

absl::StatusOr<QuantizedLayout> ParseLayout(const JsonObjectReader& r) {
  QEFF_ASSIGN_OR_RETURN(const std::string method, r.String("quant_method"));
  if (method == QuantizedLayoutName(QuantizedLayout::kQeff)) {
    QEFF_ASSIGN_OR_RETURN(const int64_t version,
                          r.Int("version", 1, INT64_MAX));
    if (version > kQeffLayoutVersion) return UnsupportedKey(r, "version");
    return QuantizedLayout::kQeff;
  }
  if (method != QuantizedLayoutName(QuantizedLayout::kCompressedTensors)) {
    return UnsupportedKey(r, "quant_method");
  }
  QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "quantization_status", {"compressed"}));
  QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "format",
                                   {kPacked, kSignedBytes, "float-quantized",
                                    "mxfp4-pack-quantized", kMixed}));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "kv_cache_scheme"));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "transform_config"));
  QEFF_ASSIGN_OR_RETURN(const auto sparsity, r.ObjectOr("sparsity_config"));
  if (sparsity.has_value() && !sparsity->object().empty()) {
    QEFF_RETURN_IF_ERROR(ExpectOneOf(*sparsity, "format", {"dense"}));
  }
  return QuantizedLayout::kCompressedTensors;
}

// Whether `r` says that weights are floats of which zeros are left out, and
// nothing else. Which layers those are is what tensors there are.
absl::StatusOr<bool> IsOnlySparse(const JsonObjectReader& r) {
  QEFF_ASSIGN_OR_RETURN(const auto sparsity, r.ObjectOr("sparsity_config"));
  QEFF_ASSIGN_OR_RETURN(const auto groups, r.ObjectOr("config_groups"));
  if (!sparsity.has_value() || sparsity->object().empty() ||
      (groups.has_value() && !groups->object().empty())) {
    return false;
  }
  QEFF_RETURN_IF_ERROR(
      ExpectOneOf(r, "quant_method",
                  {QuantizedLayoutName(QuantizedLayout::kCompressedTensors)}));
  QEFF_RETURN_IF_ERROR(ExpectOneOf(*sparsity, "format", {kSparse24Format}));
  QEFF_RETURN_IF_ERROR(ExpectOneOf(r, "format", {"dense", kSparse24Format}));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "kv_cache_scheme"));
  QEFF_RETURN_IF_ERROR(ExpectAbsent(r, "transform_config"));
  return true;
}

absl::string_view StrategyName(QuantStrategy strategy) {
  switch (strategy) {
    case QuantStrategy::kTensor:
      return "tensor";
    case QuantStrategy::kChannel:
      return "channel";
    default:
      return "group";
  }
}

// The value of input_activations.
Json InputsToJson(InputCodes inputs, QuantizedLayout layout) {
  if (inputs == InputCodes::kNone) return nullptr;
  const bool dynamic = inputs == InputCodes::kPerToken;
  Json json;
  json["num_bits"] = 8;
  json["type"] = "int";
  json["symmetric"] = true;
  json["strategy"] = dynamic ? "token" : "tensor";
  if (layout == QuantizedLayout::kQeff) {
    json["dynamic"] = dynamic;
    return json;
  }
  json["group_size"] = nullptr;
  json["dynamic"] = dynamic;
  json["actorder"] = nullptr;
  if (dynamic) {
    json["observer"] = nullptr;
  } else {
    json["observer"] = "minmax";
  }
  json["observer_kwargs"] = Json::object();
  json["block_structure"] = nullptr;
  return json;
}

Json GroupToJson(const QuantizationConfig::Group& group,
                 QuantizedLayout layout) {
  const WeightQuantization& weights = group.weights;
  Json args;
  const QuantScheme scheme = weights.ToScheme();
  if (layout == QuantizedLayout::kQeff && !scheme.integers()) {
    args["type"] = QuantSchemeName(scheme);
    return Json{{"targets", group.targets}, {"weights", std::move(args)}};
  }
  args["num_bits"] = weights.bits;
  args["type"] = weights.codebook.has_value() ? "float" : "int";
  args["symmetric"] = weights.symmetric;
  args["strategy"] = std::string(StrategyName(weights.strategy));
  if (weights.strategy == QuantStrategy::kGroup) {
    args["group_size"] = weights.group_size;
  } else {
    args["group_size"] = nullptr;
  }
  Json json;
  json["targets"] = group.targets;
  if (layout == QuantizedLayout::kCompressedTensors) {
    // Other readers want these, and refuse keys that they do not know.
    args["dynamic"] = false;
    args["actorder"] = nullptr;
    args["observer"] = "minmax";
    args["observer_kwargs"] = Json::object();
    args["block_structure"] = nullptr;
    if (weights.codebook == Codebook::kMxfp4) {
      args["scale_dtype"] = "torch.uint8";
      args["zp_dtype"] = "torch.uint8";
    }
    json["weights"] = std::move(args);
    json["input_activations"] = InputsToJson(weights.inputs, layout);
    json["output_activations"] = nullptr;
    json["format"] = std::string(FormatName(weights));
  } else {
    json["weights"] = std::move(args);
    if (weights.signed_bytes) json["format"] = kSignedBytes;
    if (weights.inputs != InputCodes::kNone) {
      json["input_activations"] = InputsToJson(weights.inputs, layout);
    }
  }
  return json;
}

}  // namespace

absl::StatusOr<std::vector<QuantizationConfig::Matcher>>
QuantizationConfig::Compile(const std::vector<std::string>& targets,
                            size_t* patterns) {
  std::vector<Matcher> matchers;
  for (const std::string& target : targets) {
    Matcher matcher;
    absl::string_view pattern = target;
    if (absl::ConsumePrefix(&pattern, kPatternPrefix)) {
      if (++*patterns > kMaxPatterns) {
        return InvalidInputError("more than ", kMaxPatterns, " patterns");
      }
      QEFF_ASSIGN_OR_RETURN(matcher.pattern, NamePattern::Compile(pattern));
    } else {
      matcher.name = target;
    }
    matchers.push_back(std::move(matcher));
  }
  return matchers;
}

int QuantizationConfig::Match(const std::vector<Matcher>& matchers,
                              absl::string_view module) {
  int best = kNoMatch;
  for (const Matcher& matcher : matchers) {
    if (matcher.pattern.has_value()) {
      if (best < kPattern && matcher.pattern->MatchPrefix(module)) {
        best = kPattern;
      }
    } else if (matcher.name == module) {
      return kName;
    } else if (IsLinearClass(matcher.name)) {
      best = std::max<int>(best, kClass);
    }
  }
  return best;
}

absl::StatusOr<QuantizationConfig> QuantizationConfig::Create(
    QuantizedLayout layout, std::vector<Group> groups,
    std::vector<std::string> ignore) {
  QuantizationConfig config;
  config.layout_ = layout;
  config.groups_ = std::move(groups);
  config.ignore_ = std::move(ignore);
  size_t patterns = 0;
  for (const Group& group : config.groups_) {
    QEFF_ASSIGN_OR_RETURN(auto matchers, Compile(group.targets, &patterns));
    config.group_matchers_.push_back(std::move(matchers));
  }
  QEFF_ASSIGN_OR_RETURN(config.ignore_matchers_,
                        Compile(config.ignore_, &patterns));
  return config;
}

absl::optional<WeightQuantization> QuantizationConfig::Find(
    absl::string_view module) const {
  if (Match(ignore_matchers_, module) != kNoMatch) return absl::nullopt;
  int best = kNoMatch;
  absl::optional<WeightQuantization> found;
  for (size_t i = 0; i < groups_.size(); ++i) {
    const int match = Match(group_matchers_[i], module);
    if (match > best) {
      best = match;
      found = groups_[i].weights;
    }
  }
  return found;
}

Json QuantizationConfig::ToJson() const {
  if (IsInputMajor(layout_)) {
    return GptqAwqConfigToJson({layout_, groups_[0].weights, false}, ignore_);
  }
  Json json;
  json["quant_method"] = std::string(QuantizedLayoutName(layout_));
  if (layout_ == QuantizedLayout::kCompressedTensors) {
    json["quantization_status"] = "compressed";
    json["format"] =
        groups_.empty() ? kPacked : std::string(FormatName(groups_[0].weights));
    for (const Group& group : groups_) {
      if (FormatName(group.weights) != FormatName(groups_[0].weights)) {
        json["format"] = kMixed;
      }
    }
  } else {
    json["version"] = kQeffLayoutVersion;
  }
  Json groups = Json::object();
  for (size_t i = 0; i < groups_.size(); ++i) {
    groups[absl::StrCat("group_", i)] = GroupToJson(groups_[i], layout_);
  }
  json["config_groups"] = std::move(groups);
  json["ignore"] = ignore_;
  if (layout_ == QuantizedLayout::kCompressedTensors) {
    json["kv_cache_scheme"] = nullptr;
    json["global_compression_ratio"] = nullptr;
  }
  return json;
}

absl::StatusOr<absl::optional<QuantizationConfig>> ParseQuantizationConfig(
    const Json& config, const std::string& context) {
  absl::optional<QuantizationConfig> none;
  QEFF_ASSIGN_OR_RETURN(const JsonObjectReader top,
                        JsonObjectReader::Create(config, context));
  // The name that early versions of llm-compressor wrote.
  QEFF_RETURN_IF_ERROR(ExpectAbsent(top, "compression_config"));
  QEFF_ASSIGN_OR_RETURN(const auto found, top.ObjectOr("quantization_config"));
  if (!found.has_value()) return none;
  const JsonObjectReader& r = *found;
  QEFF_ASSIGN_OR_RETURN(const auto input_major, ParseGptqAwqConfig(r));
  if (input_major.has_value()) {
    QEFF_ASSIGN_OR_RETURN(
        QuantizationConfig result,
        QuantizationConfig::Create(input_major->layout,
                                   {{{"Linear"}, input_major->weights}}, {}));
    return absl::optional<QuantizationConfig>(std::move(result));
  }
  QEFF_ASSIGN_OR_RETURN(const bool only_sparse, IsOnlySparse(r));
  if (only_sparse) return none;
  QEFF_ASSIGN_OR_RETURN(const QuantizedLayout layout, ParseLayout(r));
  QEFF_ASSIGN_OR_RETURN(const std::string format,
                        r.StringOr("format", kPacked));
  QEFF_ASSIGN_OR_RETURN(const auto groups_json, r.ObjectOr("config_groups"));
  if (!groups_json.has_value() || groups_json->object().size() > kMaxGroups) {
    return r.Unexpected("config_groups", absl::StrCat("an object of at most ",
                                                      kMaxGroups, " groups"));
  }
  std::vector<QuantizationConfig::Group> groups;
  for (const auto& item : groups_json->object().items()) {
    QEFF_ASSIGN_OR_RETURN(
        QuantizationConfig::Group group,
        ParseGroup(item.value(), layout, format,
                   absl::StrCat(groups_json->context(), ": ", item.key())));
    if (layout == QuantizedLayout::kCompressedTensors) {
      QEFF_RETURN_IF_ERROR(
          ExpectOneOf(r, "format", {FormatName(group.weights), kMixed}));
    }
    groups.push_back(std::move(group));
  }
  QEFF_ASSIGN_OR_RETURN(std::vector<std::string> ignore, Strings(r, "ignore"));
  QEFF_ASSIGN_OR_RETURN(
      QuantizationConfig result,
      QuantizationConfig::Create(layout, std::move(groups), std::move(ignore)),
      r.context());
  return absl::optional<QuantizationConfig>(std::move(result));
}

}  // namespace qeff
