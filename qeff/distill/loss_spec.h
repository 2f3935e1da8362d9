// SPDX-License-Identifier: Apache-2.0
//
// What a student is trained for, as people write it: "kl:1,ce:0.1,hidden:0.5".

#ifndef QEFF_DISTILL_LOSS_SPEC_H_
#define QEFF_DISTILL_LOSS_SPEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/distill/logit_loss.h"

namespace qeff {

// Weights of the terms of a loss, each finite and not negative, not all 0.
struct LossSpec {
  LogitLossWeights logits;   // kl, reverse_kl, js, ce
  double hidden_cosine = 0;  // "hidden": HiddenLoss
  double hidden_mse = 0;
  double attention = 0;  // AttentionLoss

  // Whether a teacher is needed.
  bool teacher() const {
    return logits.teacher() || hidden_cosine > 0 || hidden_mse > 0 ||
           attention > 0;
  }
};

// Reads "NAME:WEIGHT,..."; a NAME alone has the weight 1. The names are kl,
// reverse_kl, js, ce, hidden, hidden_mse and attention; what is not named has
// the weight 0.
// Errors: kInvalidArgument for a name that is unknown (the message has all that
// are) or twice, a weight that is no number, negative or not finite, and for no
// weight above 0.
absl::StatusOr<LossSpec> ParseLossSpec(absl::string_view text);

// The weights above 0 in the order above, so that ParseLossSpec reads the same.
std::string LossSpecToString(const LossSpec& spec);

}  // namespace qeff

#endif  // QEFF_DISTILL_LOSS_SPEC_H_
