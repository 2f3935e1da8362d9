// SPDX-License-Identifier: Apache-2.0
//
// How far one distribution of next tokens is from another.

#ifndef QEFF_EVAL_KL_DIVERGENCE_H_
#define QEFF_EVAL_KL_DIVERGENCE_H_

#include <cstdint>

#include "absl/types/span.h"

namespace qeff {

// What turns logits into ln of probabilities: ln p_i = logit_i - max - log_sum.
struct LogSoftmax {
  // Precondition: not empty.
  explicit LogSoftmax(absl::Span<const float> logits);

  double max = 0;
  double log_sum = 0;   // ln sum exp(logit - max)
  int64_t arg_max = 0;  // the first of equals

  double LogProbability(float logit) const { return logit - max - log_sum; }
};

// sum_i p_i (ln p_i - ln q_i) in nats, p and q being the distributions of these
// logits, in double. Rounding may leave a tiny negative value where the two are
// equal; NaN or infinite when a logit is. Precondition: equal sizes.
double KlDivergence(absl::Span<const float> p_logits, const LogSoftmax& p,
                    absl::Span<const float> q_logits, const LogSoftmax& q);

}  // namespace qeff

#endif  // QEFF_EVAL_KL_DIVERGENCE_H_
