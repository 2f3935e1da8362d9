// SPDX-License-Identifier: Apache-2.0
//
// The config.json of a model that keeps parts of another.

#ifndef QEFF_PRUNE_STRUCTURED_PRUNED_CONFIG_H_
#define QEFF_PRUNE_STRUCTURED_PRUNED_CONFIG_H_

#include "absl/status/statusor.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"

namespace qeff {

struct PrunedConfig {
  Json config;
  ModelMap map;  // what it is read as
};

// Changes the sizes of `model`'s config.json, every name that it has for one,
// and says head_dim where it no longer follows from the others. The result is
// read back: it has PrunedSpec's values, or there is an error. Errors:
// those of CheckPlan; kInvalidArgument for a quantized model, and for sizes
// that the family has no words for, with the reason: a GPT-2 or MPT head has
// hidden_size / heads channels, and ALiBi's slopes belong to a number of heads.
absl::StatusOr<PrunedConfig> PruneConfig(const Transformer& model,
                                         const StructuredPlan& plan);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_PRUNED_CONFIG_H_
