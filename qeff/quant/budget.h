// SPDX-License-Identifier: Apache-2.0
//
// Schemes of the layers of a model so that it stays within a budget and loses
// as little as possible.

#ifndef QEFF_QUANT_BUDGET_H_
#define QEFF_QUANT_BUDGET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/quant/layer_groups.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/util/hash_map.h"

namespace qeff {

// What a budget is spent on unless somebody says.
inline constexpr char kBudgetSchemes[] =
    "int2_g64,int2_g32,int3_g128,int3_g64,int3_g32,int4_g128,int4_g64,int4_g32,"
    "int5_g64,int6_g64,int8";

// One of the two is not 0.
struct Budget {
  double bits_per_weight = 0;  // over the quantized layers of the blocks
  uint64_t bytes = 0;          // of all tensors of the model
};

// Parses "4.25bpw", or bytes: "600MB", "1.5GB", "64kB" (powers of 1000), "B".
// Errors: kInvalidArgument naming `text`.
absl::StatusOr<Budget> ParseBudget(absl::string_view text);

struct SchemeAllocation {
  // By module, for QuantizeOptions.
  HashMap<std::string, QuantScheme> modules;
  std::vector<size_t> choices;  // of each group
  uint64_t bytes = 0;           // of the layers of the groups
  uint64_t budget_bytes = 0;    // for these
  double cost = 0;              // the sum of what was chosen, in nats a token
};

// Bits a weight that the layers of the blocks may have: those of the budget,
// or what is left of its bytes when all else that `plan` writes is taken off.
// Errors: kInvalidArgument when nothing is left, with what all else takes.
absl::StatusOr<double> BudgetBitsPerWeight(const Budget& budget,
                                           const QuantizePlan& plan);

// The best choices (AllocateBits) for `groups` (FindLayerGroups of `plan` and
// `schemes`, measured). Errors: those of BudgetBitsPerWeight and AllocateBits.
absl::StatusOr<SchemeAllocation> AllocateSchemes(
    const Budget& budget, const QuantizePlan& plan,
    absl::Span<const QuantScheme> schemes, absl::Span<const LayerGroup> groups);

// A table of the groups, what they lose and what was chosen, for a terminal.
std::string FormatAllocation(const SchemeAllocation& allocation,
                             absl::Span<const QuantScheme> schemes,
                             absl::Span<const LayerGroup> groups);

}  // namespace qeff

#endif  // QEFF_QUANT_BUDGET_H_
