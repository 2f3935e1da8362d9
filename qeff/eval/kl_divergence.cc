// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/kl_divergence.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace qeff {

LogSoftmax::LogSoftmax(absl::Span<const float> logits) {
  const auto top = std::max_element(logits.begin(), logits.end());
  max = *top;
  arg_max = top - logits.begin();
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  log_sum = std::log(sum);
}

double KlDivergence(absl::Span<const float> p_logits, const LogSoftmax& p,
                    absl::Span<const float> q_logits, const LogSoftmax& q) {
  double kl = 0;
  for (size_t i = 0; i < p_logits.size(); ++i) {
    const double log_p = p.LogProbability(p_logits[i]);
    kl += std::exp(log_p) * (log_p - q.LogProbability(q_logits[i]));
  }
  return kl;
}

}  // namespace qeff
