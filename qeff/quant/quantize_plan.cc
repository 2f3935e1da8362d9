// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/quantize_plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "qeff/io/quantization_config.h"
#include "qeff/quant/finite_weights.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/name_pattern.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kLmHead[] = "lm_head";
constexpr char kNotLinear[] = "not a linear layer";

absl::Status CheckScheme(const QuantScheme& scheme) {
  const std::string name = QuantSchemeName(scheme);
  QEFF_ASSIGN_OR_RETURN(QuantScheme named, ParseQuantScheme(name));
  const bool inputs = scheme.inputs != InputCodes::kNone;
  if (!scheme.codebook.has_value() && !inputs) return absl::OkStatus();
  if (!scheme.symmetric) {
    return InvalidInputError("scheme ", name,
                             ": asymmetric: it has no zero points");
  }
  named.scale_rule = scheme.scale_rule;
  if (named == scheme) return absl::OkStatus();
  return InvalidInputError("scheme ", name, ": expected ", named.bits,
                           " bits, found ", scheme.bits);
}

absl::Status CheckNotQuantized(const Checkpoint& checkpoint) {
  for (const char* key : {"quantization_config", "compression_config"}) {
    const auto found = checkpoint.config().find(key);
    if (found == checkpoint.config().end() || found->is_null()) continue;
    const bool named = found->is_object() && found->contains("quant_method");
    return InvalidInputError(
        checkpoint.config_path(), ": ", key, ": the model is quantized already",
        named ? absl::StrCat(" (quant_method ",
                             JsonForMessage((*found)["quant_method"]), ")")
              : "",
        "; quantize the original model (that of a GGUF file: qeff import "
        "--dequantize)");
  }
  return absl::OkStatus();
}

// Fills a plan; one step after the other.
class Planner {
 public:
  Planner(const Checkpoint& checkpoint, const ModelMap& map,
          const QuantizeOptions& options)
      : checkpoint_(checkpoint), map_(map), options_(options) {}

  absl::StatusOr<QuantizePlan> Plan() {
    QEFF_RETURN_IF_ERROR(CheckNotQuantized(checkpoint_));
    QEFF_RETURN_IF_ERROR(CheckScheme(options_.scheme));
    if (options_.lm_head.has_value()) {
      QEFF_RETURN_IF_ERROR(CheckScheme(*options_.lm_head));
    }
    QEFF_RETURN_IF_ERROR(CheckModules());
    plan_.rounding = options_.rounding;
    ListTensors();
    QEFF_RETURN_IF_ERROR(ChooseLayers());
    if (options_.skip_bad_tensors) QEFF_RETURN_IF_ERROR(SkipBadTensors());
    KeepWhatFitsNoLayout();
    ChooseLayout();
    QEFF_RETURN_IF_ERROR(Finish());
    return std::move(plan_);
  }

 private:
  void ListTensors() {
    for (const TensorInfo& info : checkpoint_.tensors()) {
      PlannedTensor tensor;
      tensor.name = info.name;
      tensor.dtype = info.dtype;
      tensor.shape = info.shape;
      tensor.reason = kNotLinear;
      tensor.bytes_before = info.size_bytes();
      index_[info.name] = plan_.tensors.size();
      plan_.tensors.push_back(std::move(tensor));
    }
  }

  absl::Status CheckModules() const {
    HashSet<std::string> known;
    for (const LinearModule& module : map_.Linears()) {
      if (module.role != LinearRole::kLmHead) known.insert(module.module);
    }
    for (const auto& entry : options_.modules) {
      QEFF_RETURN_IF_ERROR(CheckScheme(entry.second));
      if (known.contains(entry.first)) continue;
      return InvalidInputError(checkpoint_.folder(), ": no linear layer \"",
                               absl::CHexEscape(entry.first),
                               "\" in the blocks to give a scheme of its own");
    }
    return absl::OkStatus();
  }

  const QuantScheme& SchemeOf(const LinearModule& module) const {
    if (module.role == LinearRole::kLmHead) return *options_.lm_head;
    const auto own = options_.modules.find(module.module);
    return own == options_.modules.end() ? options_.scheme : own->second;
  }

  // The weight of `module`, stored as `name`, checked.
  absl::StatusOr<PlannedTensor*> Find(const LinearModule& module,
                                      const std::string& name) {
    const Shape shape = module.transposed
                            ? Shape({module.in_features, module.out_features})
                            : Shape({module.out_features, module.in_features});
    QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Get(name, shape));
    if (!IsFloating(view.dtype)) {
      return InvalidInputError(checkpoint_.Place(name),
                               ": expected a floating type, found ",
                               DTypeName(view.dtype));
    }
    return &plan_.tensors[index_[name]];
  }

  static void Quantize(const LinearModule& module, const QuantScheme& scheme,
                       PlannedTensor* tensor) {
    tensor->action = PlannedTensor::Action::kQuantize;
    tensor->reason.clear();
    tensor->module = module.module;
    tensor->scheme = scheme;
    tensor->rows = module.out_features;
    tensor->cols = module.in_features;
    tensor->transposed = module.transposed;
    tensor->block = module.block;
  }

  absl::Status ChooseLayers() {
    absl::optional<NamePattern> ignore;
    if (!options_.ignore.empty()) {
      QEFF_ASSIGN_OR_RETURN(ignore, NamePattern::Compile(options_.ignore));
    }
    for (const LinearModule& module : map_.Linears()) {
      const bool is_lm_head = module.role == LinearRole::kLmHead;
      QEFF_ASSIGN_OR_RETURN(PlannedTensor * tensor,
                            Find(module, module.module + ".weight"));
      if (is_lm_head && !options_.lm_head.has_value()) {
        tensor->reason = "lm_head";
        kept_.push_back(module.module);
      } else if (ignore.has_value() && ignore->Search(module.module)) {
        tensor->reason = "ignored";
        kept_.push_back(module.module);
      } else {
        Quantize(module, SchemeOf(module), tensor);
      }
    }
    if (!map_.spec.tied_lm_head) return absl::OkStatus();
    if (!options_.lm_head.has_value() ||
        (ignore.has_value() && ignore->Search(kLmHead))) {
      kept_.push_back(kLmHead);
      return absl::OkStatus();
    }
    return UntieLmHead();
  }

  // The embedding stays, and its quantized copy becomes the lm_head.
  absl::Status UntieLmHead() {
    LinearModule module = map_.lm_head;
    module.module = kLmHead;
    module.transposed = false;
    QEFF_ASSIGN_OR_RETURN(PlannedTensor * tensor,
                          Find(module, map_.token_embedding));
    Quantize(module, *options_.lm_head, tensor);
    tensor->action = PlannedTensor::Action::kAdd;
    tensor->reason = "kept, with a quantized copy as lm_head";
    plan_.unties_lm_head = true;
    return absl::OkStatus();
  }

  // Whether it is an embedding, a norm or a bias.
  bool EveryLayerNeeds(const PlannedTensor& tensor) const {
    const auto ends_in = [&](const std::string& suffix) {
      return absl::EndsWith(tensor.name, suffix);
    };
    return tensor.reason == kNotLinear && IsFloating(tensor.dtype) &&
           tensor.name != absl::StrCat(kLmHead, ".weight") &&
           std::none_of(map_.harmless_suffixes.begin(),
                        map_.harmless_suffixes.end(), ends_in);
  }

  absl::Status SkipBadTensors() {
    for (PlannedTensor& tensor : plan_.tensors) {
      if (!tensor.quantized() && !EveryLayerNeeds(tensor)) continue;
      QEFF_ASSIGN_OR_RETURN(const absl::optional<int64_t> bad,
                            FirstNotFinite(checkpoint_, tensor.name));
      if (!bad.has_value()) continue;
      const std::string text = NotFiniteText(tensor.shape, *bad);
      if (tensor.action != PlannedTensor::Action::kQuantize) {
        return NumericalError(checkpoint_.Place(tensor.name), ": ", text,
                              "; only linear layers can be skipped");
      }
      Revert(text, &tensor);
      tensor.skipped = true;
    }
    return absl::OkStatus();
  }

  void KeepWhatFitsNoLayout() {
    for (PlannedTensor& tensor : plan_.tensors) {
      if (!tensor.quantized()) continue;
      const std::string why = WhyNotQuantized(tensor.scheme, tensor.cols);
      if (!why.empty()) Revert(why, &tensor);
    }
  }

  void ChooseLayout() {
    std::string first;
    int64_t count = 0;
    const bool forced_compressed =
        options_.layout == QuantizedLayout::kCompressedTensors;
    for (PlannedTensor& tensor : plan_.tensors) {
      if (!tensor.quantized()) continue;
      const std::string why = WhyNotCompressedTensors(
          tensor.scheme, tensor.cols, tensor.transposed);
      if (why.empty()) continue;
      if (forced_compressed) {
        Revert(absl::StrCat("not in compressed-tensors: ", why), &tensor);
      } else if (count++ == 0) {
        first = absl::StrCat(tensor.module, ": ", why);
      }
    }
    if (options_.layout.has_value()) {
      plan_.layout = *options_.layout;
      plan_.layout_reason = "asked for";
    } else if (count == 0) {
      plan_.layout = QuantizedLayout::kCompressedTensors;
      plan_.layout_reason = "it can hold every layer";
    } else {
      plan_.layout = QuantizedLayout::kQeff;
      plan_.layout_reason = absl::StrCat("compressed-tensors cannot hold ",
                                         count, " of the layers (", first, ")");
    }
  }

  void Revert(const std::string& why, PlannedTensor* tensor) {
    if (tensor->action == PlannedTensor::Action::kAdd) {
      plan_.unties_lm_head = false;
    }
    kept_.push_back(tensor->module);
    tensor->action = PlannedTensor::Action::kKeep;
    tensor->reason = why;
    if (reverted_.empty()) {
      reverted_ = absl::StrCat(tensor->module, ": ", tensor->reason);
    }
  }

  absl::Status Finish() {
    const auto unread = index_.find(absl::StrCat(kLmHead, ".weight"));
    if (plan_.unties_lm_head && unread != index_.end()) {
      PlannedTensor& tensor = plan_.tensors[unread->second];
      tensor.action = PlannedTensor::Action::kDrop;
      tensor.reason = "the model reads the embedding instead";
    }
    bool any = false;
    for (PlannedTensor& tensor : plan_.tensors) {
      const bool copied = tensor.action == PlannedTensor::Action::kKeep ||
                          tensor.action == PlannedTensor::Action::kAdd;
      tensor.bytes_after = copied ? tensor.bytes_before : 0;
      if (!tensor.quantized()) continue;
      any = true;
      tensor.bytes_after +=
          QuantizedShape(tensor.scheme, tensor.rows, tensor.cols)
              .StoredBytes(tensor.scale_dtype());
    }
    if (!any) {
      return InvalidInputError(
          checkpoint_.folder(), ": no linear layer is left to quantize",
          options_.ignore.empty()
              ? ""
              : absl::StrCat(" (ignored: \"", absl::CHexEscape(options_.ignore),
                             "\")"),
          reverted_.empty() ? "" : absl::StrCat(" (", reverted_, ")"));
    }
    return WriteConfig();
  }

  absl::Status WriteConfig() {
    std::sort(kept_.begin(), kept_.end());
    QEFF_ASSIGN_OR_RETURN(
        const QuantizationConfig quantization,
        QuantizationConfig::Create(plan_.layout, ConfigGroups(), kept_));
    plan_.config = checkpoint_.config();
    plan_.config["quantization_config"] = quantization.ToJson();
    if (plan_.unties_lm_head) plan_.config["tie_word_embeddings"] = false;
    return absl::OkStatus();
  }

  // One group when all layers agree, so that plain readers are happy. Else
  // "Linear" for the blocks' options_.scheme (where none has it, for that of
  // the first), and modules by name for each of the other schemes.
  std::vector<QuantizationConfig::Group> ConfigGroups() const {
    const QuantScheme* main = nullptr;
    for (const PlannedTensor& tensor : plan_.tensors) {
      if (!tensor.quantized() || IsLmHead(tensor)) continue;
      if (main == nullptr || tensor.scheme == options_.scheme) {
        main = &tensor.scheme;
      }
    }
    std::vector<QuantizationConfig::Group> groups;
    std::vector<const QuantScheme*> schemes;  // as groups
    if (main != nullptr) {
      groups.push_back({{"Linear"}, WeightQuantization::FromScheme(*main)});
      schemes.push_back(main);
    }
    for (const PlannedTensor& tensor : plan_.tensors) {
      if (!tensor.quantized()) continue;
      size_t i = 0;
      while (i < schemes.size() && !(*schemes[i] == tensor.scheme)) ++i;
      if (i == schemes.size()) {
        schemes.push_back(&tensor.scheme);
        groups.push_back({{}, WeightQuantization::FromScheme(tensor.scheme)});
      }
      if (schemes[i] != main) groups[i].targets.push_back(tensor.module);
    }
    return groups;
  }

  std::string LmHeadModule() const {
    return map_.spec.tied_lm_head ? kLmHead : map_.lm_head.module;
  }
  bool IsLmHead(const PlannedTensor& tensor) const {
    return tensor.module == LmHeadModule();
  }

  const Checkpoint& checkpoint_;
  const ModelMap& map_;
  const QuantizeOptions& options_;
  HashMap<std::string, size_t> index_;  // into plan_.tensors
  std::vector<std::string> kept_;       // linear modules
  std::string reverted_;  // the first that the layout cannot hold, and why
  QuantizePlan plan_;
};

}  // namespace

double PlannedTensor::BitsPerWeight() const {
  if (quantized()) {
    return QuantizedShape(scheme, rows, cols).BitsPerWeight(scale_dtype());
  }
  return action == Action::kDrop ? 0
                                 : 8 * static_cast<double>(DTypeBytes(dtype));
}

uint64_t QuantizePlan::BytesBefore() const {
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : tensors) bytes += tensor.bytes_before;
  return bytes;
}

uint64_t QuantizePlan::BytesAfter() const {
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : tensors) bytes += tensor.bytes_after;
  return bytes;
}

int64_t QuantizePlan::NumSkipped() const {
  return std::count_if(
      tensors.begin(), tensors.end(),
      [](const PlannedTensor& tensor) { return tensor.skipped; });
}

double QuantizePlan::QuantizedBitsPerWeight() const {
  double bits = 0, weights = 0;
  for (const PlannedTensor& tensor : tensors) {
    if (!tensor.quantized()) continue;
    const double count =
        static_cast<double>(tensor.rows) * static_cast<double>(tensor.cols);
    bits += tensor.BitsPerWeight() * count;
    weights += count;
  }
  return weights == 0 ? 0 : bits / weights;
}

absl::StatusOr<QuantizePlan> PlanQuantization(const Checkpoint& checkpoint,
                                              const ModelMap& map,
                                              const QuantizeOptions& options) {
  return Planner(checkpoint, map, options).Plan();
}

}  // namespace qeff
