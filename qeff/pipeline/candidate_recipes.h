// SPDX-License-Identifier: Apache-2.0
//
// The recipes that a search tries: what measured best in the tables of
// qeff/quant, qeff/prune and qeff/distill.

#ifndef QEFF_PIPELINE_CANDIDATE_RECIPES_H_
#define QEFF_PIPELINE_CANDIDATE_RECIPES_H_

#include <cstdint>
#include <string>

#include "qeff/pipeline/recipe.h"
#include "qeff/pipeline/sparse_choices.h"

namespace qeff {

struct CandidateOptions {
  // Of calibration, and of distillation where there are data.
  int64_t calibration_tokens = 65536;
  int64_t sequence_length = 256;
  int64_t distill_steps = 120;
  uint64_t seed = 0;
};

// All layers alike: at 2 bits with `best`, above with GPTQ, to which autoround
// adds 1 to 5 % there for ten times the time. Precondition (checked): `scheme`
// is one.
pipeline::Recipe UniformRecipe(const CandidateOptions& options,
                               const std::string& scheme);

// The same, then taught by the model that was given, as codes.
pipeline::Recipe TaughtRecipe(const CandidateOptions& options,
                              const std::string& scheme);

// A budget as quantize takes it, spent on `schemes`, separated by commas; on
// those that quantize has for it when empty.
pipeline::Recipe BudgetRecipe(const CandidateOptions& options,
                              const std::string& budget,
                              const std::string& schemes);

// `share` of the parameters, taught, then quantized to kSmallerScheme.
inline constexpr char kSmallerScheme[] = "int4_g64";
pipeline::Recipe SmallerRecipe(const CandidateOptions& options, double share);

// Pruned and quantized in one walk; shares go where they cost least.
pipeline::Recipe SparseRecipe(const CandidateOptions& options,
                              const SparseChoice& choice);

// Pruned, taught with its zeros kept, then quantized.
pipeline::Recipe TaughtSparseRecipe(const CandidateOptions& options,
                                    const SparseChoice& choice);

// For probes, seconds each: rounded to the least squared error, without
// calibration; pruned and quantized with little of it, all layers alike.
pipeline::Recipe RoundedRecipe(const std::string& scheme);
pipeline::Recipe SparseProbeRecipe(const CandidateOptions& options,
                                   const SparseChoice& choice);

}  // namespace qeff

#endif  // QEFF_PIPELINE_CANDIDATE_RECIPES_H_
