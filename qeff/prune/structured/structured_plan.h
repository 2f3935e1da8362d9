// SPDX-License-Identifier: Apache-2.0
//
// Which parts of a model a smaller one keeps: whole layers, feed-forward
// neurons, groups of attention heads and channels of the hidden states. What
// remains is a model like any other, with smaller sizes. Which parts to keep is
// chosen by choose_plan.h; slice_weights.h and pruned_writer.h carry it out.

#ifndef QEFF_PRUNE_STRUCTURED_STRUCTURED_PLAN_H_
#define QEFF_PRUNE_STRUCTURED_STRUCTURED_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "qeff/spec/transformer_spec.h"

namespace qeff {

// Indices into the original model, in the order that the result has them.
// ffn[i] and kv_groups[i] are those of layer layers[i]; all layers keep as many
// since a configuration has one number for all. A KV group is a head of keys
// and values with the heads of queries that read it.
struct StructuredPlan {
  std::vector<int64_t> layers;  // rising
  std::vector<int64_t> hidden;
  std::vector<std::vector<int64_t>> ffn;
  std::vector<std::vector<int64_t>> kv_groups;

  bool operator==(const StructuredPlan& other) const {
    return layers == other.layers && hidden == other.hidden &&
           ffn == other.ffn && kv_groups == other.kv_groups;
  }
};

// The plan that changes nothing.
StructuredPlan KeepAll(const TransformerSpec& spec);

// kInvalidArgument, naming the part and the index, unless every list of `plan`
// has at least one index, each once and of the model, layers rise, and all
// layers keep as many neurons and groups.
absl::Status CheckPlan(const TransformerSpec& spec, const StructuredPlan& plan);

// `spec` with the sizes of a checked plan.
TransformerSpec PrunedSpec(const TransformerSpec& spec,
                           const StructuredPlan& plan);

// The heads, of a model with ALiBi, whose slopes are those of `count` heads, in
// their order: they alone can stay. Slopes of fewer heads are among those of
// more. Precondition: 1 <= count <= num_heads.
std::vector<int64_t> AlibiHeads(const TransformerSpec& spec, int64_t count);

// Whether two of them are the same, but for rounding.
bool SameSlope(double a, double b);

// Elements of all tensors of a model: embeddings, blocks, norms, and lm_head
// unless tied.
int64_t CountParameters(const TransformerSpec& spec);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_STRUCTURED_PLAN_H_
