// SPDX-License-Identifier: Apache-2.0
//
// What each part of a model loses with each of several schemes, so that bits
// can go where they count (bit_allocation.h). Two things are measured on text:
// the KL divergence of the whole model when one part alone is rounded with a
// scheme of about the bits that are wanted, and the squared error of that
// part's outputs with every scheme. The divergence grows with the squared
// error as long as both are small, so
//
//   cost(part, scheme) = divergence(part) error(part, scheme) /
//                        error(part, scheme that was measured)
//
// and the divergence of a model is taken to be the sum of its parts' costs.

#ifndef QEFF_QUANT_SENSITIVITY_H_
#define QEFF_QUANT_SENSITIVITY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/layer_groups.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

struct SensitivityOptions {
  // Calls the change of each layer with its inputs, once for all of its rows,
  // and measures nothing.
  bool inputs_only = false;
  // A path beside which files with hidden states may be made, or empty: they
  // stay in memory, up to kSensitivityBytes.
  std::string scratch_path;
  // Called between pieces of work; an error ends it. May be null.
  std::function<absl::Status()> check;
  // Called after each block and at the end. May be null.
  std::function<void(int64_t done, int64_t total)> progress;
};

// Bytes of hidden states, one set for each group: what bounds the tokens.
inline constexpr uint64_t kSensitivityBytes = uint64_t{512} << 20;

// The first tokens of `sample` that are looked at: whole sequences where one
// fits, at least 64 and at most 8192 in all.
TokenSample SensitivitySample(const Transformer& model,
                              const TokenSample& sample);

// Changes `weights` [out, in], all rows of a layer or some of them, to what
// choice `scheme` makes of them. `inputs` [tokens, in] are the layer's in the
// original model.
using LayerChange = std::function<void(
    const PlannedTensor& tensor, size_t scheme, MatrixView<const float> inputs,
    MatrixView<float> weights)>;

// Fills in errors, costs and divergences of `groups` (FindLayerGroups). One
// block is in memory at a time; every set of hidden states goes through it, so
// that reading and packing weights costs no more than one forward. The same
// bits for any number of threads. Errors: kDataLoss when a cost is not finite,
// naming the layer; those of reading the model, of options.check and of scratch
// files.
absl::Status MeasureChanges(std::shared_ptr<const Transformer> model,
                            const LayerChange& change,
                            const TokenSample& sample,
                            const SensitivityOptions& options,
                            std::vector<LayerGroup>* groups, ThreadPool& pool);

// The same, where a choice is one of `schemes` to round to (RoundWeights).
absl::Status MeasureSensitivities(std::shared_ptr<const Transformer> model,
                                  absl::Span<const QuantScheme> schemes,
                                  const TokenSample& sample,
                                  const SensitivityOptions& options,
                                  std::vector<LayerGroup>* groups,
                                  ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_SENSITIVITY_H_
