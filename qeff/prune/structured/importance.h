// SPDX-License-Identifier: Apache-2.0
//
// How much each part of a model that can be removed matters, by what runs
// through it on text. What a removal costs in the end is measured by
// pruned_walk.h; these numbers say where to look.

#ifndef QEFF_PRUNE_STRUCTURED_IMPORTANCE_H_
#define QEFF_PRUNE_STRUCTURED_IMPORTANCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Numbers of at least 0 that are compared within a list (those of neurons and
// groups within their layer): the least goes first. Without a unit.
struct StructuredImportance {
  std::vector<std::vector<double>> ffn;        // [layer][neuron]
  std::vector<std::vector<double>> kv_groups;  // [layer][group]
  std::vector<double> hidden;                  // [channel]
  std::vector<double> layers;
};

// Zeros.
StructuredImportance ZeroImportance(const TransformerSpec& spec);

// Random numbers: what choices are compared with.
StructuredImportance RandomImportance(const TransformerSpec& spec,
                                      uint64_t seed);

struct ImportanceOptions {
  // Called between pieces of work; an error ends it. May be null.
  std::function<absl::Status()> check;
  // Called after each block. May be null.
  std::function<void(int64_t done, int64_t total)> progress;
};

// By activations a, with the mean of |a| over a sequence s and the L2 norm over
// sequences, m(a) = sqrt(sum_s (mean |a|)^2):
//   neuron   m of the input of down
//   group    L2 norm over its channels of m of the input of o
//   channel  sum over all norms of m of what the norm gives
//   layer    1 - cos(input, output), mean over tokens
// One block is in memory at a time, beside the sample's hidden states. The same
// bits for any number of threads. Errors: those of reading the model and of
// options.check; kDataLoss naming the block when a value is not finite.
//
// Source: Muralidharan et al. 2024 (Minitron); layers: Men et al. 2024
// (ShortGPT).
absl::StatusOr<StructuredImportance> MeasureActivations(
    std::shared_ptr<const Transformer> model, const TokenSample& sample,
    const ImportanceOptions& options, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_IMPORTANCE_H_
