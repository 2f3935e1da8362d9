// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/structured/structured_plan.h"

#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

std::vector<int64_t> UpTo(int64_t count) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  return indices;
}

// `what` in the plural.
absl::Status CheckIndices(absl::string_view what,
                          absl::Span<const int64_t> kept, int64_t count) {
  if (kept.empty()) {
    return InvalidInputError(what, ": expected 1 to ", count, " kept, found 0");
  }
  std::vector<bool> seen(static_cast<size_t>(count));
  for (const int64_t index : kept) {
    if (index < 0 || index >= count) {
      return InvalidInputError(what, ": expected indices from 0 to ", count - 1,
                               ", found ", index);
    }
    if (seen[static_cast<size_t>(index)]) {
      return InvalidInputError(what, ": expected each index once, found ",
                               index, " again");
    }
    seen[static_cast<size_t>(index)] = true;
  }
  return absl::OkStatus();
}

absl::Status CheckLayers(absl::string_view what,
                         const std::vector<std::vector<int64_t>>& kept,
                         size_t layers, int64_t count) {
  if (kept.size() != layers) {
    return InvalidInputError(what, ": expected lists for ", layers,
                             " layers, found ", kept.size());
  }
  for (const std::vector<int64_t>& indices : kept) {
    QEFF_RETURN_IF_ERROR(CheckIndices(what, indices, count));
    if (indices.size() != kept[0].size()) {
      return InvalidInputError(what, ": expected ", kept[0].size(),
                               " in every layer, found ", indices.size());
    }
  }
  return absl::OkStatus();
}

int64_t NormElems(const TransformerSpec& spec) {
  return spec.hidden_size * (spec.norm_bias ? 2 : 1);
}

}  // namespace

StructuredPlan KeepAll(const TransformerSpec& spec) {
  StructuredPlan plan;
  plan.layers = UpTo(spec.num_layers);
  plan.hidden = UpTo(spec.hidden_size);
  const size_t layers = plan.layers.size();
  plan.ffn.assign(layers, UpTo(spec.ffn_size));
  plan.kv_groups.assign(layers, UpTo(spec.num_kv_heads));
  return plan;
}

absl::Status CheckPlan(const TransformerSpec& spec,
                       const StructuredPlan& plan) {
  QEFF_RETURN_IF_ERROR(CheckIndices("layers", plan.layers, spec.num_layers));
  for (size_t i = 1; i < plan.layers.size(); ++i) {
    if (plan.layers[i] > plan.layers[i - 1]) continue;
    return InvalidInputError("layers: expected rising indices, found ",
                             plan.layers[i], " after ", plan.layers[i - 1]);
  }
  QEFF_RETURN_IF_ERROR(
      CheckIndices("hidden channels", plan.hidden, spec.hidden_size));
  const size_t layers = plan.layers.size();
  QEFF_RETURN_IF_ERROR(
      CheckLayers("FFN neurons", plan.ffn, layers, spec.ffn_size));
  return CheckLayers("KV groups", plan.kv_groups, layers, spec.num_kv_heads);
}

TransformerSpec PrunedSpec(const TransformerSpec& spec,
                           const StructuredPlan& plan) {
  TransformerSpec pruned = spec;
  pruned.num_layers = static_cast<int64_t>(plan.layers.size());
  pruned.hidden_size = static_cast<int64_t>(plan.hidden.size());
  pruned.ffn_size = static_cast<int64_t>(plan.ffn[0].size());
  pruned.num_kv_heads = static_cast<int64_t>(plan.kv_groups[0].size());
  pruned.num_heads = pruned.num_kv_heads * (spec.num_heads / spec.num_kv_heads);
  return pruned;
}

bool SameSlope(double a, double b) { return std::abs(a - b) <= 1e-9 * a; }

std::vector<int64_t> AlibiHeads(const TransformerSpec& spec, int64_t count) {
  TransformerSpec fewer = spec;
  fewer.num_heads = count;
  const std::vector<double> had = AlibiSlopes(spec);
  std::vector<int64_t> heads;
  for (const double slope : AlibiSlopes(fewer)) {
    for (size_t h = 0; h < had.size(); ++h) {
      if (!SameSlope(had[h], slope)) continue;
      heads.push_back(static_cast<int64_t>(h));
      break;
    }
  }
  return heads;
}

int64_t CountParameters(const TransformerSpec& spec) {
  int64_t block = spec.block_linear_elems() + 2 * NormElems(spec);
  if (spec.qk_norm) block += 2 * spec.head_dim;
  if (spec.qkv_bias) block += spec.q_size() + 2 * spec.kv_size();
  if (spec.attention_output_bias) block += spec.hidden_size;
  if (spec.ffn_bias) {
    block += spec.ffn_size * (spec.gated_ffn ? 2 : 1) + spec.hidden_size;
  }
  int64_t ends = spec.vocab_size * spec.hidden_size + NormElems(spec);
  if (!spec.tied_lm_head) ends += spec.vocab_size * spec.hidden_size;
  if (spec.position == PositionKind::kLearned) {
    ends += spec.max_positions * spec.hidden_size;
  }
  return spec.num_layers * block + ends;
}

}  // namespace qeff
