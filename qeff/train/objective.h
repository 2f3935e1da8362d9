// SPDX-License-Identifier: Apache-2.0
//
// What a model is trained towards.

#ifndef QEFF_TRAIN_OBJECTIVE_H_
#define QEFF_TRAIN_OBJECTIVE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "qeff/train/model_gradient.h"
#include "qeff/train/model_weights.h"
#include "qeff/train/token_batch.h"

namespace qeff {

// A part of the loss as it is reported, summed over counted tokens.
struct LossTerm {
  std::string name;  // such as "ce"
  double sum = 0;
};

// Not thread-safe.
class Objective {
 public:
  virtual ~Objective() = default;

  // Gets ready for `batch`, a part of those of a step: runs a teacher, for
  // instance. `scale` is the factor of the sums over its tokens in the loss of
  // the step: 1 / tokens that the step counts.
  virtual absl::Status Begin(const TokenBatch& batch, double scale) = 0;

  // The loss of the batch of Begin.
  virtual ModelLoss& loss() = 0;

  // After the batch went through the model: an error of the loss on the way.
  virtual absl::Status End() { return absl::OkStatus(); }

  // Sums since the last call, the same names in the same order each time. The
  // first is what is minimized.
  virtual std::vector<LossTerm> TakeTerms() = 0;

  // What is trained beside the model (projections between widths), and its
  // gradients, which the losses add to. One for one, borrowed.
  virtual std::vector<Parameter> parameters() { return {}; }
  virtual std::vector<Parameter> gradients() { return {}; }
};

}  // namespace qeff

#endif  // QEFF_TRAIN_OBJECTIVE_H_
