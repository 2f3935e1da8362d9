// SPDX-License-Identifier: Apache-2.0
//
// Finding a recipe: candidates from cheap ones to full runs, each an ordinary
// recipe whose steps are kept like any other's, so that what one candidate has
// made the next finds.

#ifndef QEFF_PIPELINE_SEARCH_H_
#define QEFF_PIPELINE_SEARCH_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/pipeline/candidate.h"
#include "qeff/pipeline/recipe.h"
#include "qeff/pipeline/run_recipe.h"

namespace qeff {

struct SearchResult {
  pipeline::Recipe recipe;  // of the chosen one
  double perplexity_before = 0;
  std::vector<Candidate> seen;  // in the order that they were made
  // Schemes and sparse models that a probe ruled out, before a full run.
  std::vector<std::string> ruled_out;
};

// The best candidate within the limits: of a size the one with the least
// perplexity, of a perplexity the smallest. `on_candidate`, unless empty, gets
// each one that was measured.
//
// Of a size: the largest uniform schemes that fit, with the algorithm that
// measured best at their bits, a budget of that size, and, with data, the best
// of these taught by the model that was given, as codes. Below what two bits
// take, and with data, fewer parameters in four bits. Of a perplexity: uniform
// schemes from the smallest on until one keeps to it, budgets between that one
// and the one before, and (with data) what was too bad by little, taught.
// With a target, only schemes that the device engine multiplies as integers,
// and sparse models: of those that are as small (of a perplexity: smaller than
// all others that keep to it) the one that loses least in a probe, and with
// data the same taught.
//
// Where schemes differ in their bits, those that are far off are ruled out by a
// probe: rounded without calibration, measured on the beginning of the text.
//
// Errors: kInvalidArgument when nothing fits, with the smallest size or
// increase there is, and without calibration and text; those of RunRecipe. When
// the time is over, the best so far, if there is one.
absl::StatusOr<SearchResult> SearchRecipe(
    const RecipeInputs& inputs, const SearchLimits& limits,
    const RecipeRunOptions& options,
    const std::function<void(const Candidate&)>& on_candidate);

}  // namespace qeff

#endif  // QEFF_PIPELINE_SEARCH_H_
