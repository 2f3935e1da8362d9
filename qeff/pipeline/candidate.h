// SPDX-License-Identifier: Apache-2.0
//
// What a search must keep to, and which of the models that it made does so
// best.

#ifndef QEFF_PIPELINE_CANDIDATE_H_
#define QEFF_PIPELINE_CANDIDATE_H_

#include <cstdint>
#include <limits>
#include <string>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/pipeline/candidate_recipes.h"
#include "qeff/pipeline/recipe.h"

namespace qeff {

// What the model must keep to. One of the first three.
struct SearchLimits {
  uint64_t bytes = 0;              // of all weights, or of the package
  double bits_per_weight = 0;      // of the blocks' layers
  double perplexity_increase = 0;  // over the model's own, 0.02: 2 %
  absl::Duration time = absl::InfiniteDuration();  // of the search
  // The machines that a device package is for, as compile's --target; sizes are
  // then those of the package, and recipes end with it. "": a model folder.
  std::string target;
  CandidateOptions candidates;
};

// A model that was made and measured.
struct Candidate {
  std::string name;  // "int4_g32", "budget 3.25bpw, distilled"
  pipeline::Recipe recipe;
  uint64_t bytes = 0;          // as SearchLimits', where it was made
  double bits_per_weight = 0;  // of the blocks' layers
  double perplexity = std::numeric_limits<double>::infinity();
  double kl_mean = 0;
  bool chosen = false;
};

// Whether limits of a size allow it; with one of perplexity all are allowed.
bool FitsSize(const SearchLimits& limits, uint64_t bytes,
              double bits_per_weight);

// Of two perplexities, 0.02: 2 %.
inline double IncreaseOf(double perplexity, double before) {
  return perplexity / before - 1;
}

// Whether a candidate is within the limits. `before` is the perplexity of the
// model that was given.
bool Fits(const SearchLimits& limits, const Candidate& candidate,
          double before);

// The index of the best one within the limits: of a size that with the least
// perplexity, of a perplexity the smallest. nullopt when none is.
absl::optional<size_t> BestWithin(const SearchLimits& limits,
                                  absl::Span<const Candidate> candidates,
                                  double before);

}  // namespace qeff

#endif  // QEFF_PIPELINE_CANDIDATE_H_
