// SPDX-License-Identifier: Apache-2.0
//
// What the steps of a recipe will take, before one has run: by counting
// operations, so about. For a plan that people read.

#ifndef QEFF_PIPELINE_ESTIMATE_H_
#define QEFF_PIPELINE_ESTIMATE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/pipeline/recipe.h"
#include "qeff/transformer/model_map.h"

namespace qeff {

struct StepEstimate {
  uint64_t bytes = 0;  // of the model, file or folder that it makes
  double seconds = 0;
  uint64_t memory_bytes = 0;  // that it allocates; mapped weights come and go
};

struct EstimateOptions {
  // Of the machine, in float32: half of it is what the steps get.
  double peak_flops = 0;
  // Of the held-out text, and of the calibration text.
  int64_t text_tokens = 0;
  int64_t calibration_tokens = 0;
};

// For each of the steps, whose models begin with that of `checkpoint` and
// `map`. Sizes of quantized models are those that PlanQuantization gives, in
// the share of the parameters that steps before have left. Errors: those of
// PlanQuantization and of parsing schemes and budgets.
absl::StatusOr<std::vector<StepEstimate>> EstimateSteps(
    absl::Span<const RecipeStep> steps, const Checkpoint& checkpoint,
    const ModelMap& map, const EstimateOptions& options);

}  // namespace qeff

#endif  // QEFF_PIPELINE_ESTIMATE_H_
