// SPDX-License-Identifier: Apache-2.0
//
// Structured pruning: an ordinary model of smaller sizes from a large one.
//
//   StructuredOptions options;
//   options.sizes.ffn_size = 512;
//   QEFF_ASSIGN_OR_RETURN(
//       StructuredReport report,
//       PruneStructured(model, sample, output, options, *pool));

#ifndef QEFF_PRUNE_STRUCTURED_PRUNE_STRUCTURED_H_
#define QEFF_PRUNE_STRUCTURED_PRUNE_STRUCTURED_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/choose_plan.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Where a choice comes from.
enum class ImportanceKind : uint8_t {
  kActivations,  // MeasureActivations
  kGradients,    // MeasureGradients
  kRandom,       // for comparison
};

// "activations", "gradients", "random". Errors: kInvalidArgument with these.
absl::StatusOr<ImportanceKind> ParseImportanceKind(absl::string_view name);

struct StructuredOptions {
  // What the result shall be: sizes, or a share of the parameters (0: sizes).
  PrunedSizes sizes;
  double parameters = 0;
  ImportanceKind importance = ImportanceKind::kActivations;
  uint64_t seed = 0;  // of kRandom
  // Whether what remains makes up for what goes (pruned_walk.h).
  bool compensate = true;
  double damping = 0.01;
  // For gradients: see MeasureGradients.
  std::string scratch_path;
  // Called between pieces of work; an error ends it. May be null.
  std::function<absl::Status()> check;
  // Called when a stage begins and after each of its pieces. May be null.
  std::function<void(absl::string_view stage, int64_t done, int64_t total)>
      progress;
};

// Sizes that were compared, by what they cost.
struct StructuredCandidate {
  PrunedSizes sizes;
  int64_t parameters = 0;
  double divergence = 0;  // KL from the model, nats a token
};

struct StructuredReport {
  PrunedSizes sizes;  // of the result
  StructuredPlan plan;
  int64_t parameters_before = 0;
  int64_t parameters_after = 0;
  std::vector<StructuredCandidate> candidates;  // best first; may be empty
  int64_t unsolved = 0;                         // PrunedWalkResult
};

// Chooses by `sample` and writes the smaller model to the new folder `output`,
// block by block: see MeasureActivations and WalkPruned for memory. Errors,
// after which nothing is left at `output`: those of CheckSizes, SizesWithin and
// PruneConfig, before work begins; kAlreadyExists; those of reading, measuring,
// writing and the callbacks. The bytes do not depend on `pool`.
absl::StatusOr<StructuredReport> PruneStructured(
    std::shared_ptr<const Transformer> model, const TokenSample& sample,
    const std::string& output, const StructuredOptions& options,
    ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_PRUNE_STRUCTURED_H_
