// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/write_quantized_folder.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/export/encode_layer.h"
#include "qeff/export/read_back.h"
#include "qeff/export/stored_layer.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/gptq_awq_config.h"
#include "qeff/io/quantization_config.h"
#include "qeff/util/check.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kLmHead[] = "lm_head";

// Of an lm_head that is decoded, at once.
constexpr int64_t kChunkElems = int64_t{1} << 20;

bool SameStorage(const WeightQuantization& a, const WeightQuantization& b) {
  return a.ToScheme() == b.ToScheme() && a.strategy == b.strategy &&
         a.signed_bytes == b.signed_bytes && a.inputs == b.inputs;
}

std::string Describe(const WeightQuantization& weights) {
  return absl::StrCat(weights.bits, " bits, ",
                      weights.strategy == QuantStrategy::kGroup
                          ? absl::StrCat("groups of ", weights.group_size)
                          : "a scale a row");
}

class FolderWriter {
 public:
  FolderWriter(const Transformer& model, QuantizedLayout layout,
               const std::string& output)
      : model_(model),
        checkpoint_(model.checkpoint()),
        layout_(layout),
        output_(output) {}

  absl::StatusOr<QuantizedFolderReport> Run() {
    QEFF_RETURN_IF_ERROR(Plan());
    QEFF_ASSIGN_OR_RETURN(const Json config, Config());
    std::vector<TensorInfo> tensors = layer_tensors_;
    for (const std::string& name : CopiedTensors()) {
      QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Get(name));
      tensors.push_back({name, view.dtype, view.shape});
    }
    for (const TensorInfo& info : tensors) {
      report_.weight_bytes += info.size_bytes();
    }
    QEFF_ASSIGN_OR_RETURN(const auto extra, ReadOtherFiles(checkpoint_));
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<CheckpointWriter> writer,
        CheckpointWriter::Create(output_, std::move(tensors)));
    for (const LinearModule& module : layers_) {
      QEFF_RETURN_IF_ERROR(WriteLayer(module, writer.get()));
    }
    QEFF_RETURN_IF_ERROR(WriteLmHeadFloats(writer.get()));
    for (const std::string& name : CopiedTensors()) {
      QEFF_RETURN_IF_ERROR(
          CopyTensor(checkpoint_, name, nullptr, writer.get()));
    }
    QEFF_RETURN_IF_ERROR(checkpoint_.VerifyUnchanged());
    QEFF_RETURN_IF_ERROR(writer->Commit(config, extra));
    QEFF_RETURN_IF_ERROR(ReadBack(model_, output_));
    return report_;
  }

 private:
  // Finds the layers and what they become.
  absl::Status Plan() {
    for (const LinearModule& module : model_.map().Linears()) {
      if (!IsStoredQuantized(model_, module)) {
        kept_.push_back(module.module);
        continue;
      }
      QEFF_ASSIGN_OR_RETURN(const StoredLayer layer,
                            ReadStoredLayer(model_, module));
      const std::string why = WhyNotHeld(layer, layout_);
      const absl::Status held = why.empty()
                                    ? AddToConfig(layer)
                                    : NotHeldError(model_, layer, layout_, why);
      if (!held.ok()) {
        // Linears() has the lm_head last.
        if (module.role != LinearRole::kLmHead || layers_.empty() ||
            layer.matrix.inputs != InputCodes::kNone) {
          return held;
        }
        lm_head_floats_ = module;
        report_.lm_head_floats =
            why.empty() ? absl::StrCat("it has ", Describe(layer.weights))
                        : why;
        kept_.push_back(module.module);
        layer_tensors_.push_back(
            {module.module + ".weight", DType::kF32,
             Shape({module.out_features, module.in_features})});
        continue;
      }
      layers_.push_back(module);
      for (TensorInfo& info : DeclareLayer(checkpoint_, layer, layout_)) {
        layer_tensors_.push_back(std::move(info));
      }
      model_.ReleaseBlock(module.block);
    }
    if (model_.spec().tied_lm_head) kept_.push_back(kLmHead);
    report_.layers = static_cast<int64_t>(layers_.size());
    if (!layers_.empty()) return absl::OkStatus();
    return InvalidInputError(checkpoint_.folder(),
                             ": the model has no quantized layers, of which ",
                             QuantizedLayoutName(layout_),
                             " is made; quantize it first, or write gguf or "
                             "onnx, which hold floats");
  }

  absl::Status AddToConfig(const StoredLayer& layer) {
    const bool ordered = layer.matrix.column_groups != nullptr;
    const std::string& name = layer.module.module;
    if (!IsInputMajor(layout_)) {
      for (size_t i = 0; i < groups_.size(); ++i) {
        if (!SameStorage(groups_[i].weights, layer.weights) ||
            ordered_[i] != ordered) {
          continue;
        }
        groups_[i].targets.push_back(name);
        return absl::OkStatus();
      }
    }
    if (!IsInputMajor(layout_) || groups_.empty()) {
      groups_.push_back({{name}, layer.weights});
      ordered_.push_back(ordered);
      return absl::OkStatus();
    }
    WeightQuantization& all = groups_[0].weights;
    if (all.bits != layer.weights.bits ||
        all.strategy != layer.weights.strategy ||
        all.group_size != layer.weights.group_size) {
      return InvalidInputError(
          checkpoint_.folder(), ": ", QuantizedLayoutName(layout_),
          " has one number of bits and one group size for all layers, but ",
          groups_[0].targets[0], " has ", Describe(all), ", and ", name, " ",
          Describe(layer.weights),
          WhyNotHeld(layer, QuantizedLayout::kCompressedTensors).empty()
              ? "; compressed-tensors can hold both"
              : "");
    }
    all.symmetric = all.symmetric && layer.weights.symmetric;
    ordered_[0] = ordered_[0] || ordered;
    return absl::OkStatus();
  }

  absl::StatusOr<Json> Config() {
    Json config = checkpoint_.config();
    if (IsInputMajor(layout_)) {
      GptqAwqConfig quantization;
      quantization.layout = layout_;
      quantization.weights = groups_[0].weights;
      quantization.activation_order = ordered_[0];
      config["quantization_config"] = GptqAwqConfigToJson(quantization, kept_);
      return config;
    }
    // Plain readers are happy with one group of all layers.
    const auto largest = std::max_element(
        groups_.begin(), groups_.end(), [](const auto& a, const auto& b) {
          return a.targets.size() < b.targets.size();
        });
    largest->targets = {"Linear"};
    QEFF_ASSIGN_OR_RETURN(
        const QuantizationConfig quantization,
        QuantizationConfig::Create(layout_, std::move(groups_), kept_));
    Json json = quantization.ToJson();
    size_t i = 0;
    for (auto& item : json["config_groups"].items()) {
      if (ordered_[i++]) item.value()["weights"]["actorder"] = "group";
    }
    config["quantization_config"] = std::move(json);
    return config;
  }

  // Names of tensors that stay as they are.
  std::vector<std::string> CopiedTensors() const {
    HashSet<std::string> quantized, with_bias;
    const auto add = [&](const LinearModule& module) {
      quantized.insert(module.module);
      if (module.has_bias) with_bias.insert(module.module + ".bias");
    };
    for (const LinearModule& module : layers_) add(module);
    if (lm_head_floats_.has_value()) add(*lm_head_floats_);
    std::vector<std::string> names;
    for (const TensorInfo& info : checkpoint_.tensors()) {
      const std::string module = info.name.substr(0, info.name.rfind('.'));
      if (!quantized.contains(module) || with_bias.contains(info.name)) {
        names.push_back(info.name);
      }
    }
    return names;
  }

  absl::Status WriteLayer(const LinearModule& module,
                          CheckpointWriter* writer) const {
    QEFF_ASSIGN_OR_RETURN(const StoredLayer layer,
                          ReadStoredLayer(model_, module));
    QEFF_ASSIGN_OR_RETURN(const std::vector<EncodedTensor> tensors,
                          EncodeLayer(checkpoint_, layer, layout_));
    for (const EncodedTensor& tensor : tensors) {
      QEFF_RETURN_IF_ERROR(writer->Write(tensor.info.name, 0, tensor.bytes));
    }
    model_.ReleaseBlock(module.block);
    return absl::OkStatus();
  }

  absl::Status WriteLmHeadFloats(CheckpointWriter* writer) const {
    if (!lm_head_floats_.has_value()) return absl::OkStatus();
    const LinearModule& module = *lm_head_floats_;
    const uint64_t row_bytes =
        static_cast<uint64_t>(module.in_features) * sizeof(float);
    const int64_t chunk =
        std::max<int64_t>(1, kChunkElems / module.in_features);
    for (int64_t row = 0; row < module.out_features; row += chunk) {
      QEFF_ASSIGN_OR_RETURN(
          const LinearWeights rows,
          model_.LoadLinearRows(module.block, module.role, row,
                                std::min(chunk, module.out_features - row)));
      const absl::Span<const float> values = rows.weight.span();
      QEFF_RETURN_IF_ERROR(writer->Write(
          module.module + ".weight", static_cast<uint64_t>(row) * row_bytes,
          absl::MakeSpan(reinterpret_cast<const uint8_t*>(values.data()),
                         values.size() * sizeof(float))));
    }
    return absl::OkStatus();
  }

  const Transformer& model_;
  const Checkpoint& checkpoint_;
  const QuantizedLayout layout_;
  const std::string output_;
  std::vector<LinearModule> layers_;  // quantized ones
  absl::optional<LinearModule> lm_head_floats_;
  std::vector<std::string> kept_;  // the other linear modules
  std::vector<TensorInfo> layer_tensors_;
  // By modules; of GPTQ and AWQ the first, and its first module, count.
  std::vector<QuantizationConfig::Group> groups_;
  // Whether columns are in activation order, as groups_.
  std::vector<bool> ordered_;
  QuantizedFolderReport report_;
};

}  // namespace

absl::StatusOr<QuantizedFolderReport> WriteQuantizedFolder(
    const Transformer& model, QuantizedLayout layout,
    const std::string& output) {
  QEFF_CHECK(layout != QuantizedLayout::kQeff);
  return GuardMemory([&]() -> absl::StatusOr<QuantizedFolderReport> {
    return FolderWriter(model, layout, output).Run();
  });
}

}  // namespace qeff
