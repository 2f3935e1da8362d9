// SPDX-License-Identifier: Apache-2.0
//
// The parts of a model that schemes are chosen for, and what there is to choose
// from. What a choice costs is measured by sensitivity.h; bit_allocation.h
// chooses.

#ifndef QEFF_QUANT_LAYER_GROUPS_H_
#define QEFF_QUANT_LAYER_GROUPS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/model_map.h"

namespace qeff {

// Layers of a block that get the same scheme because they have the same inputs.
struct LayerGroup {
  enum class Inputs : uint8_t { kQkv, kO, kFfn, kDown };

  int64_t block = 0;
  Inputs inputs = Inputs::kQkv;
  std::vector<const LinearModule*> modules;   // of the model's map
  std::vector<const PlannedTensor*> tensors;  // of the plan, as modules

  struct Choice {
    size_t scheme = 0;   // among those that were asked for
    uint64_t bytes = 0;  // of the layers' codes and scales
    double error = 0;    // of their outputs, squared, a token
    double cost = 0;     // nats a token
  };
  std::vector<Choice> choices;  // what can hold all of the layers
  // The choice whose divergence is measured, and that: nats a token.
  size_t measured = 0;
  double divergence = 0;

  int64_t Weights() const;
};

// As people and JSON call them: "qkv", "o", "gate_up", "down".
const char* InputsName(LayerGroup::Inputs inputs);

// The layers of the blocks that `plan` quantizes, in the order of the blocks;
// lm_head is not among them. `measured` of each is the choice nearest to
// `bits_per_weight`. With `compressed_tensors` only schemes that this layout
// can hold are choices. `map` and `plan` must outlive the result. Errors:
// kInvalidArgument for layers that none of `schemes` can hold, naming the
// first.
absl::StatusOr<std::vector<LayerGroup>> FindLayerGroups(
    const ModelMap& map, const QuantizePlan& plan,
    absl::Span<const QuantScheme> schemes, double bits_per_weight,
    bool compressed_tensors = false);

}  // namespace qeff

#endif  // QEFF_QUANT_LAYER_GROUPS_H_
