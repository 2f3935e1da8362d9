// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/layer_groups.h"

#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "qeff/format/quantized_layout.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kGroupsOfBlock = 4;

LayerGroup::Inputs InputsOf(LinearRole role) {
  switch (role) {
    case LinearRole::kO:
      return LayerGroup::Inputs::kO;
    case LinearRole::kGate:
    case LinearRole::kUp:
      return LayerGroup::Inputs::kFfn;
    case LinearRole::kDown:
      return LayerGroup::Inputs::kDown;
    default:
      return LayerGroup::Inputs::kQkv;
  }
}

// Without weight_shape.
uint64_t BytesOf(const PlannedTensor& tensor, const QuantScheme& scheme) {
  const QuantizedShape shape(scheme, tensor.rows, tensor.cols);
  const double bits = shape.BitsPerWeight(ScaleDType(scheme, tensor.dtype));
  return static_cast<uint64_t>(
      std::llround(bits * static_cast<double>(tensor.rows) *
                   static_cast<double>(tensor.cols) / 8));
}

bool Fits(const PlannedTensor& tensor, const QuantScheme& scheme,
          bool compressed_tensors) {
  return WhyNotQuantized(scheme, tensor.cols).empty() &&
         (!compressed_tensors ||
          WhyNotCompressedTensors(scheme, tensor.cols, tensor.transposed)
              .empty());
}

absl::Status FindChoices(absl::Span<const QuantScheme> schemes,
                         double bits_per_weight, bool compressed_tensors,
                         LayerGroup* group) {
  double nearest = 0;
  for (size_t s = 0; s < schemes.size(); ++s) {
    LayerGroup::Choice choice;
    choice.scheme = s;
    bool fits = true;
    for (const PlannedTensor* tensor : group->tensors) {
      fits = fits && Fits(*tensor, schemes[s], compressed_tensors);
      if (fits) choice.bytes += BytesOf(*tensor, schemes[s]);
    }
    if (!fits) continue;
    const double bits = 8 * static_cast<double>(choice.bytes) /
                        static_cast<double>(group->Weights());
    const double distance = std::abs(bits - bits_per_weight);
    if (group->choices.empty() || distance < nearest) {
      nearest = distance;
      group->measured = group->choices.size();
    }
    group->choices.push_back(choice);
  }
  if (!group->choices.empty()) return absl::OkStatus();
  return InvalidInputError(group->modules[0]->module,
                           ": none of the schemes can hold it");
}

}  // namespace

const char* InputsName(LayerGroup::Inputs inputs) {
  constexpr const char* kNames[] = {"qkv", "o", "gate_up", "down"};
  return kNames[static_cast<size_t>(inputs)];
}

int64_t LayerGroup::Weights() const {
  int64_t weights = 0;
  for (const PlannedTensor* tensor : tensors) {
    weights += tensor->rows * tensor->cols;
  }
  return weights;
}

absl::StatusOr<std::vector<LayerGroup>> FindLayerGroups(
    const ModelMap& map, const QuantizePlan& plan,
    absl::Span<const QuantScheme> schemes, double bits_per_weight,
    bool compressed_tensors) {
  HashMap<std::string, const PlannedTensor*> planned;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.quantized()) planned.emplace(tensor.module, &tensor);
  }
  std::vector<LayerGroup> groups;
  for (size_t b = 0; b < map.blocks.size(); ++b) {
    std::array<LayerGroup, kGroupsOfBlock> of_block;
    for (const LinearModule& module : map.blocks[b].linears) {
      const auto found = planned.find(module.module);
      if (found == planned.end()) continue;
      const LayerGroup::Inputs inputs = InputsOf(module.role);
      LayerGroup& group = of_block[static_cast<size_t>(inputs)];
      group.block = static_cast<int64_t>(b);
      group.inputs = inputs;
      group.modules.push_back(&module);
      group.tensors.push_back(found->second);
    }
    for (LayerGroup& group : of_block) {
      if (group.modules.empty()) continue;
      QEFF_RETURN_IF_ERROR(
          FindChoices(schemes, bits_per_weight, compressed_tensors, &group));
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

}  // namespace qeff
