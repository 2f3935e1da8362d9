// SPDX-License-Identifier: Apache-2.0
//
// What a search learns of a candidate in seconds: made cheaply, and measured
// on the beginning of the text.

#ifndef QEFF_PIPELINE_PROBE_H_
#define QEFF_PIPELINE_PROBE_H_

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "qeff/pipeline/recipe.h"
#include "qeff/pipeline/run_recipe.h"

namespace qeff {

// In nats a token.
struct Loss {
  double nll = 0;  // more than the model's own
  double kl = 0;
};

// Not thread-safe. Inputs and options must outlive it.
class Prober {
 public:
  Prober(const RecipeInputs& inputs, const RecipeRunOptions& options)
      : inputs_(inputs), options_(options) {}

  // What the model that `recipe` makes loses on kTokens tokens. Errors: those
  // of RunRecipe.
  absl::StatusOr<Loss> Measure(pipeline::Recipe recipe);

  static constexpr int64_t kTokens = 8192;

 private:
  const RecipeInputs& inputs_;
  const RecipeRunOptions& options_;
  absl::optional<double> nll_before_;
};

}  // namespace qeff

#endif  // QEFF_PIPELINE_PROBE_H_
