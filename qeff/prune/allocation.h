// SPDX-License-Identifier: Apache-2.0
//
// How much each layer of a model gives, when all together are to give a share
// of their weights: layers that can do without more lose more.

#ifndef QEFF_PRUNE_ALLOCATION_H_
#define QEFF_PRUNE_ALLOCATION_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/prune_plan.h"
#include "qeff/quant/sensitivity.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

enum class SparsityAllocation : uint8_t {
  kUniform,  // all layers the same
  // Blocks whose weights have more outliers, in Wanda's score, give less: Yin
  // et al., "Outlier Weighed Layerwise Sparsity (OWL)", arXiv 2310.05175, with
  // its lambda of 0.08 and outliers beyond 5 times a layer's mean.
  kOwl,
  // Each group of layers (q, k, v; o; gate, up; down) is pruned alone, by
  // SparseGPT, at several shares, and what the whole model loses is measured
  // (sensitivity.h); the shares with the least sum are found exactly
  // (bit_allocation.h).
  kBudget,
};

// "uniform", "owl", "budget". Errors: kInvalidArgument.
absl::StatusOr<SparsityAllocation> ParseSparsityAllocation(
    absl::string_view name);
absl::string_view SparsityAllocationName(SparsityAllocation allocation);

// Sets the patterns of the layers of `plan` (made from `model`), and its
// config. Layers that it ignores are not looked at: shares are of the weights of
// its layers. kOwl removes no more in all than `plan` did before, kBudget, whose
// shares have steps, no less. Errors:
// kInvalidArgument for a pattern with groups, whose shares are fixed, unless
// kUniform; those of MeasureChanges. The same result for any
// number of threads.
absl::Status AllocateSparsity(std::shared_ptr<const Transformer> model,
                              SparsityAllocation allocation,
                              const TokenSample& sample,
                              const SensitivityOptions& options,
                              PrunePlan* plan, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_ALLOCATION_H_
