// SPDX-License-Identifier: Apache-2.0
//
// Which layers of a model are pruned and how far, decided before any work
// starts.

#ifndef QEFF_PRUNE_PRUNE_PLAN_H_
#define QEFF_PRUNE_PRUNE_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/io/checkpoint.h"
#include "qeff/prune/sparsity_pattern.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/json.h"

namespace qeff {

enum class PruneMethod : uint8_t { kMagnitude, kWanda, kSparseGpt };

// "magnitude", "wanda", "sparsegpt". Errors: kInvalidArgument.
absl::StatusOr<PruneMethod> ParsePruneMethod(absl::string_view name);
absl::string_view PruneMethodName(PruneMethod method);

struct PruneOptions {
  PruneMethod method = PruneMethod::kSparseGpt;
  SparsityPattern pattern;
  // Linear layers whose module name contains a match stay dense; empty: none.
  std::string ignore;
};

// A linear layer of a block.
struct PrunedLayer {
  std::string name;    // of its weight
  std::string module;  // name without ".weight"
  DType dtype;
  int64_t rows = 0;         // out features
  int64_t cols = 0;         // in features
  bool transposed = false;  // stored as [cols, rows]
  int64_t block = 0;
  SparsityPattern pattern;

  int64_t weights() const { return rows * cols; }
};

struct PrunePlan {
  PruneMethod method = PruneMethod::kSparseGpt;
  SparsityPattern pattern;
  std::vector<PrunedLayer> layers;  // ordered by block, then name
  // config.json of the output: the model's, and "sparsity" (README.md).
  Json config;

  // The layer of that module, or null. Linear in the number of layers.
  const PrunedLayer* Find(absl::string_view module) const;
  int64_t Weights() const;
  int64_t Removed() const;
};

// Plans for the linear layers of the blocks of `checkpoint`, all with the
// pattern of the options (allocation.h changes that). Errors: kInvalidArgument
// for a model that is quantized, a bad `ignore`, and when no layer is left;
// those of PlanQuantization that are not about schemes.
absl::StatusOr<PrunePlan> PlanPruning(const Checkpoint& checkpoint,
                                      const ModelMap& map,
                                      const PruneOptions& options);

// Sets the plan's config after its layers' patterns were changed: "sparsity"
// says how the mask was made, for people; readers find it in the weights.
void DescribeSparsity(absl::string_view allocation, PrunePlan* plan);

// A table: layers of a kind in a line.
std::string FormatPrunePlan(const PrunePlan& plan);

}  // namespace qeff

#endif  // QEFF_PRUNE_PRUNE_PLAN_H_
