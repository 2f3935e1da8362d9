// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/candidate_recipes.h"

#include <algorithm>

#include "qeff/format/quant_scheme.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

using pipeline::Recipe;

constexpr int64_t kProbeCalibrationTokens = 8192;

template <class Step>
void Calibrate(const CandidateOptions& options, Step* step) {
  step->set_calibration_tokens(options.calibration_tokens);
  step->set_sequence_length(options.sequence_length);
  step->set_seed(options.seed);
}

void AddQuantize(const CandidateOptions& options, const std::string& scheme,
                 const std::string& algorithm, Recipe* recipe) {
  pipeline::Quantize* const quantize = recipe->add_step()->mutable_quantize();
  quantize->set_scheme(scheme);
  quantize->set_algorithm(algorithm);
  Calibrate(options, quantize);
}

// With uniform shares.
pipeline::Prune* AddPrune(const CandidateOptions& options,
                          const SparseChoice& choice, Recipe* recipe) {
  pipeline::Prune* const prune = recipe->add_step()->mutable_prune();
  prune->set_method("sparsegpt");
  if (choice.pattern.empty()) {
    prune->set_sparsity(choice.share);
  } else {
    prune->set_pattern(choice.pattern);
  }
  Calibrate(options, prune);
  return prune;
}

pipeline::Distill* AddDistill(const CandidateOptions& options,
                              double learning_rate, Recipe* recipe) {
  pipeline::Distill* const distill = recipe->add_step()->mutable_distill();
  distill->set_loss("kl:1,ce:1");
  distill->set_steps(options.distill_steps);
  distill->set_warmup_steps(options.distill_steps / 10);
  distill->set_learning_rate(learning_rate);
  distill->set_eval_every(options.distill_steps);
  distill->set_sequence_length(options.sequence_length);
  distill->set_seed(options.seed);
  return distill;
}

}  // namespace

Recipe UniformRecipe(const CandidateOptions& options,
                     const std::string& scheme) {
  const auto parsed = ParseQuantScheme(scheme);
  QEFF_CHECK(parsed.ok());
  Recipe recipe;
  AddQuantize(options, scheme, parsed->bits <= 2 ? "best" : "gptq", &recipe);
  return recipe;
}

Recipe TaughtRecipe(const CandidateOptions& options,
                    const std::string& scheme) {
  Recipe recipe = UniformRecipe(options, scheme);
  pipeline::Distill* const distill = AddDistill(options, 3e-4, &recipe);
  distill->set_scheme(scheme);
  distill->set_learn_scales(true);
  return recipe;
}

Recipe BudgetRecipe(const CandidateOptions& options, const std::string& budget,
                    const std::string& schemes) {
  Recipe recipe;
  pipeline::Quantize* const quantize = recipe.add_step()->mutable_quantize();
  if (!schemes.empty()) quantize->set_scheme(schemes);
  quantize->set_budget(budget);
  quantize->set_algorithm("gptq");
  Calibrate(options, quantize);
  return recipe;
}

Recipe SmallerRecipe(const CandidateOptions& options, double share) {
  Recipe recipe;
  pipeline::Prune* const prune = recipe.add_step()->mutable_prune();
  prune->set_method("structured");
  prune->set_parameters(share);
  Calibrate(options, prune);
  AddDistill(options, 1e-3, &recipe);
  AddQuantize(options, kSmallerScheme, "gptq", &recipe);
  return recipe;
}

Recipe SparseRecipe(const CandidateOptions& options,
                    const SparseChoice& choice) {
  Recipe recipe;
  pipeline::Prune* const prune = AddPrune(options, choice, &recipe);
  prune->set_scheme(choice.scheme);
  if (choice.pattern.empty()) prune->set_allocation("budget");
  return recipe;
}

Recipe TaughtSparseRecipe(const CandidateOptions& options,
                          const SparseChoice& choice) {
  Recipe recipe;
  pipeline::Prune* const prune = AddPrune(options, choice, &recipe);
  if (choice.pattern.empty()) prune->set_allocation("budget");
  AddDistill(options, 3e-4, &recipe);
  AddQuantize(options, choice.scheme, "gptq", &recipe);
  return recipe;
}

Recipe SparseProbeRecipe(const CandidateOptions& options,
                         const SparseChoice& choice) {
  CandidateOptions little = options;
  little.calibration_tokens =
      std::min(options.calibration_tokens, kProbeCalibrationTokens);
  Recipe recipe;
  AddPrune(little, choice, &recipe)->set_scheme(choice.scheme);
  return recipe;
}

Recipe RoundedRecipe(const std::string& scheme) {
  Recipe recipe;
  pipeline::Quantize* const quantize = recipe.add_step()->mutable_quantize();
  quantize->set_scheme(scheme);
  quantize->set_algorithm("mse");
  return recipe;
}

}  // namespace qeff
