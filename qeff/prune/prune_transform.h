// SPDX-License-Identifier: Apache-2.0
//
// Pruning as a named change of a model, for pipelines and the facade.

#ifndef QEFF_PRUNE_PRUNE_TRANSFORM_H_
#define QEFF_PRUNE_PRUNE_TRANSFORM_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/prune/prune_plan.h"
#include "qeff/transformer/model_transform.h"

namespace qeff {

// Prunes as `options` say, every layer the same, on `sample`, which magnitude
// does not look at. Not resumed: after an error nothing is left. Errors: those
// of PlanPruning, PruneCalibrated and PruneByMagnitude; kInvalidArgument
// without a sample where one is needed. Thread-safe.
class PruneTransform : public ModelTransform {
 public:
  explicit PruneTransform(PruneOptions options, TokenSample sample = {})
      : options_(std::move(options)), sample_(std::move(sample)) {}

  // "prune(sparsegpt,2:4)".
  std::string name() const override;

  absl::StatusOr<TransformReport> Apply(const Transformer& model,
                                        const std::string& output,
                                        ThreadPool& pool) override;

 private:
  const PruneOptions options_;
  const TokenSample sample_;
};

}  // namespace qeff

#endif  // QEFF_PRUNE_PRUNE_TRANSFORM_H_
