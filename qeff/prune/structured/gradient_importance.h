// SPDX-License-Identifier: Apache-2.0
//
// How much each part of a model matters, by the gradient of its loss on text.

#ifndef QEFF_PRUNE_STRUCTURED_GRADIENT_IMPORTANCE_H_
#define QEFF_PRUNE_STRUCTURED_GRADIENT_IMPORTANCE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/importance.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// First-order estimates of what the loss of next tokens changes by when a part
// becomes 0, summed over sequences without their signs:
//   sum over sequences of |sum of g w|
// with the weights w and their gradients g of a sequence's mean loss:
//   neuron   its column of down
//   group    its columns of o
//   channel  its weight in a norm, summed over the norms
//   layer    o and down
// Every block is read twice; one is in memory at a time, beside lm_head
// and, for each token, the inputs of all blocks, which lie in a file beside
// `scratch_path`, unless that is empty, where they take more than 512 MiB. The
// same bits for any number of threads. Errors: as MeasureActivations, and those
// of the file.
//
// Source: Molchanov et al. 2019, arXiv 1906.10771; LLM-Pruner (Ma et al. 2023).
absl::StatusOr<StructuredImportance> MeasureGradients(
    std::shared_ptr<const Transformer> model, const TokenSample& sample,
    const std::string& scratch_path, const ImportanceOptions& options,
    ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_GRADIENT_IMPORTANCE_H_
