// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/probe.h"

#include <utility>

#include "qeff/util/json.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::StatusOr<Json> MeasureBeginning(pipeline::Recipe recipe,
                                      const RecipeInputs& inputs,
                                      const RecipeRunOptions& options) {
  recipe.add_step()->mutable_evaluate()->set_max_tokens(Prober::kTokens);
  QEFF_ASSIGN_OR_RETURN(const RecipeResult run,
                        RunRecipe(StepsOf(recipe), inputs, options));
  return run.steps.back().result;
}

}  // namespace

absl::StatusOr<Loss> Prober::Measure(pipeline::Recipe recipe) {
  if (!nll_before_.has_value()) {
    QEFF_ASSIGN_OR_RETURN(
        const Json before,
        MeasureBeginning(pipeline::Recipe(), inputs_, options_));
    nll_before_ = before["nll"].get<double>();
  }
  QEFF_ASSIGN_OR_RETURN(const Json after,
                        MeasureBeginning(std::move(recipe), inputs_, options_));
  return Loss{after["nll"].get<double>() - *nll_before_,
              after["kl_mean"].get<double>()};
}

}  // namespace qeff
