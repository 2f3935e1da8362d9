// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/candidate.h"

#include <utility>

namespace qeff {
namespace {

bool IsBetter(const SearchLimits& limits, const Candidate& a,
              const Candidate& b) {
  return limits.perplexity_increase > 0
             ? std::make_pair(a.bytes, a.perplexity) <
                   std::make_pair(b.bytes, b.perplexity)
             : std::make_pair(a.perplexity, a.bytes) <
                   std::make_pair(b.perplexity, b.bytes);
}

}  // namespace

bool FitsSize(const SearchLimits& limits, uint64_t bytes,
              double bits_per_weight) {
  if (limits.bytes != 0) return bytes <= limits.bytes;
  return limits.bits_per_weight == 0 ||
         bits_per_weight <= limits.bits_per_weight;
}

bool Fits(const SearchLimits& limits, const Candidate& candidate,
          double before) {
  if (limits.perplexity_increase > 0) {
    return IncreaseOf(candidate.perplexity, before) <=
           limits.perplexity_increase;
  }
  return FitsSize(limits, candidate.bytes, candidate.bits_per_weight);
}

absl::optional<size_t> BestWithin(const SearchLimits& limits,
                                  absl::Span<const Candidate> candidates,
                                  double before) {
  absl::optional<size_t> best;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!Fits(limits, candidates[i], before)) continue;
    if (!best.has_value() ||
        IsBetter(limits, candidates[i], candidates[*best])) {
      best = i;
    }
  }
  return best;
}

}  // namespace qeff
