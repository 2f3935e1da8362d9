// SPDX-License-Identifier: Apache-2.0
//
// From sizes, or a number of parameters, to the parts that a model keeps.

#ifndef QEFF_PRUNE_STRUCTURED_CHOOSE_PLAN_H_
#define QEFF_PRUNE_STRUCTURED_CHOOSE_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/prune/structured/importance.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/spec/transformer_spec.h"

namespace qeff {

// Sizes of the result; 0 keeps the model's.
struct PrunedSizes {
  int64_t layers = 0;
  int64_t hidden_size = 0;
  int64_t heads = 0;  // of queries: whole groups
  int64_t ffn_size = 0;
};

// kInvalidArgument naming the flag, its value and what it may be, unless every
// size is 0 or from 1 to the model's, heads are whole groups, and at least one
// is smaller than the model's.
absl::Status CheckSizes(const TransformerSpec& spec, const PrunedSizes& sizes);

// Keeps the most important parts, of equals the first, in the order that the
// model has them; heads with ALiBi are those of AlibiHeads. Preconditions
// (checked): CheckSizes, but that sizes may be the model's; the importance is
// `spec`'s.
StructuredPlan ChoosePlan(const TransformerSpec& spec,
                          const StructuredImportance& importance,
                          const PrunedSizes& sizes);

// The model's, where a size is 0.
PrunedSizes WholeSizes(const TransformerSpec& spec, PrunedSizes sizes);

// "20 layers, hidden_size 2048, 32 heads, ffn_size 4096".
std::string FormatSizes(const PrunedSizes& sizes);

// Sizes that leave at most `share` of the model's parameters, and little less:
// combinations of some layers (down to 80 %), hidden channels and heads (down
// to 60 %), with the neurons (down to 60 %) that this leaves room for, in
// multiples that kernels like where the model's are such. `families` whose
// heads and channels go together are not looked at: sizes that PruneConfig
// refuses are the caller's to leave out. Errors: kInvalidArgument unless share
// is above 0 and below 1, naming --parameters, and when there are no such
// sizes.
absl::StatusOr<std::vector<PrunedSizes>> SizesWithin(
    const TransformerSpec& spec, double share);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_CHOOSE_PLAN_H_
