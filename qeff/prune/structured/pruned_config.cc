// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/pruned_config.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Sets every key of `keys` that `config` has.
void Replace(std::initializer_list<const char*> keys, int64_t value,
             Json* config) {
  for (const char* key : keys) {
    const auto found = config->find(key);
    if (found != config->end() && !found->is_null()) *found = value;
  }
}

// The factor of `hidden` that gives exactly `ffn`, which a quotient need not.
double ExpansionRatio(int64_t ffn, int64_t hidden) {
  const double size = static_cast<double>(hidden);
  const double ratio = static_cast<double>(ffn) / size;
  for (const double to : {0.0, std::numeric_limits<double>::infinity()}) {
    if (ratio * size == static_cast<double>(ffn)) break;
    const double near = std::nextafter(ratio, to);
    if (near * size == static_cast<double>(ffn)) return near;
  }
  return ratio;
}

void SetSizes(const TransformerSpec& before, const TransformerSpec& after,
              Json* config) {
  Replace({"hidden_size", "n_embd", "d_model"}, after.hidden_size, config);
  Replace({"num_hidden_layers", "n_layer", "n_layers"}, after.num_layers,
          config);
  Replace({"num_attention_heads", "n_head", "n_heads"}, after.num_heads,
          config);
  Replace({"num_key_value_heads"}, after.num_kv_heads, config);
  Replace({"intermediate_size", "n_inner"}, after.ffn_size, config);
  if (before.family == "gpt2") {
    if (after.ffn_size != 4 * after.hidden_size) {
      (*config)["n_inner"] = after.ffn_size;
    }
  } else if (before.family == "mpt") {
    const double ratio = ExpansionRatio(after.ffn_size, after.hidden_size);
    const bool said = config->contains("expansion_ratio");
    if (said || ratio != 4) {
      // As it is mostly written.
      const bool whole = ratio == std::floor(ratio);
      (*config)["expansion_ratio"] =
          whole ? Json(static_cast<int64_t>(ratio)) : Json(ratio);
    }
  } else if (after.hidden_size != before.hidden_size ||
             after.num_heads != before.num_heads) {
    (*config)["head_dim"] = after.head_dim;
  }
}

void SetLayerTypes(const StructuredPlan& plan, Json* config) {
  const auto types = config->find("layer_types");
  if (types == config->end() || !types->is_array()) return;
  Json kept = Json::array();
  for (const int64_t layer : plan.layers) {
    kept.push_back((*types)[static_cast<size_t>(layer)]);
  }
  *types = std::move(kept);
}

// ALiBi's slopes cannot be chosen.
absl::Status CheckSlopes(const TransformerSpec& before,
                         const TransformerSpec& after,
                         const StructuredPlan& plan) {
  if (before.position != PositionKind::kAlibi) return absl::OkStatus();
  const std::vector<double> had = AlibiSlopes(before);
  const std::vector<double> has = AlibiSlopes(after);
  for (const std::vector<int64_t>& groups : plan.kv_groups) {
    for (size_t i = 0; i < groups.size(); ++i) {
      // MPT has a group for each head.
      if (SameSlope(had[static_cast<size_t>(groups[i])], has[i])) continue;
      return InvalidInputError("heads: ALiBi gives head ", i, " of ",
                               has.size(), " the slope ", has[i], ", but head ",
                               groups[i], " of ", had.size(), " has ",
                               had[static_cast<size_t>(groups[i])]);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSame(const TransformerSpec& wanted,
                       const TransformerSpec& found) {
  const struct {
    const char* name;
    double wanted, found;
  } fields[] = {
      {"hidden_size", 1.0 * wanted.hidden_size, 1.0 * found.hidden_size},
      {"layers", 1.0 * wanted.num_layers, 1.0 * found.num_layers},
      {"heads", 1.0 * wanted.num_heads, 1.0 * found.num_heads},
      {"kv_heads", 1.0 * wanted.num_kv_heads, 1.0 * found.num_kv_heads},
      {"head_dim", 1.0 * wanted.head_dim, 1.0 * found.head_dim},
      {"ffn_size", 1.0 * wanted.ffn_size, 1.0 * found.ffn_size},
      {"sliding_window", 1.0 * wanted.sliding_window,
       1.0 * found.sliding_window},
      {"attention_scale", wanted.attention_scale, found.attention_scale},
  };
  for (const auto& field : fields) {
    if (field.wanted == field.found) continue;
    return InvalidInputError(
        "a model of family ", wanted.family, " with hidden_size ",
        wanted.hidden_size, ", ", wanted.num_heads, " heads and ffn_size ",
        wanted.ffn_size, " has ", field.name, " ", field.found, ", not ",
        field.wanted, "; choose sizes that keep it");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PrunedConfig> PruneConfig(const Transformer& model,
                                         const StructuredPlan& plan) {
  const Checkpoint& checkpoint = model.checkpoint();
  if (model.quantization().has_value()) {
    return InvalidInputError(
        checkpoint.config_path(),
        ": the model is quantized; prune the original and quantize the result");
  }
  QEFF_RETURN_IF_ERROR(CheckPlan(model.spec(), plan));
  const TransformerSpec pruned = PrunedSpec(model.spec(), plan);
  QEFF_RETURN_IF_ERROR(CheckSlopes(model.spec(), pruned, plan));
  PrunedConfig result;
  result.config = checkpoint.config();
  SetSizes(model.spec(), pruned, &result.config);
  SetLayerTypes(plan, &result.config);
  auto map =
      MapConfig(result.config, checkpoint.config_path(),
                [&](absl::string_view name) { return checkpoint.Has(name); });
  if (!map.ok()) {
    return InvalidInputError(
        "a model of family ", pruned.family,
        " cannot have these sizes: ", map.status().message());
  }
  result.map = *std::move(map);
  QEFF_RETURN_IF_ERROR(CheckSame(pruned, result.map.spec));
  return result;
}

}  // namespace qeff
