// SPDX-License-Identifier: Apache-2.0
//
// What removing single parts of a model costs, each alone and without
// compensation: where there is something to gain, and where not. For what
// schemes of quantization cost see qeff/quant/sensitivity.h.

#ifndef QEFF_PRUNE_STRUCTURED_REMOVAL_SENSITIVITY_H_
#define QEFF_PRUNE_STRUCTURED_REMOVAL_SENSITIVITY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/structured/importance.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Parts that a layer's feed-forward is cut into, by importance.
inline constexpr int kFfnSlices = 4;

// KL divergences from the original model, nats a token.
struct LayerSensitivity {
  double layer = 0;               // all of it
  std::vector<double> kv_groups;  // heads of queries with their keys and values
  // Neurons: the least important quarter, the next, ...; empty ones are 0.
  std::vector<double> ffn_slices;
};

struct RemovalOptions {
  // A path beside which a file with hidden states may be made, or empty: they
  // stay in memory, up to kRemovalBytes.
  std::string scratch_path;
  ImportanceOptions calls;  // `progress`: blocks
};

// Bytes of hidden states, one set for each part: what bounds the tokens.
inline constexpr uint64_t kRemovalBytes = uint64_t{512} << 20;

// The first tokens of `sample` that are looked at: whole sequences where one
// fits, at least 64 and at most 8192 in all.
TokenSample RemovalSample(const Transformer& model, const TokenSample& sample);

// One block is in memory at a time; every part's hidden states go through those
// behind its own, so that weights are read and packed once. The same bits for
// any number of threads. Errors: those of reading the model, of scratch files
// and of the callbacks; kDataLoss when a divergence is not finite, naming the
// layer. Precondition: `importance` is of `model`.
absl::StatusOr<std::vector<LayerSensitivity>> MeasureRemovals(
    std::shared_ptr<const Transformer> model,
    const StructuredImportance& importance, const TokenSample& sample,
    const RemovalOptions& options, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_REMOVAL_SENSITIVITY_H_
