// SPDX-License-Identifier: Apache-2.0
//
// SmoothQuant: where inputs are rounded as well as weights, channels with large
// inputs are scaled down and their columns up, so that both lose less together.
// For the pairs of a model's blocks see awq_folds.h.
//
// Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training
// Quantization for Large Language Models", arXiv 2211.10438, equation 4; with
// the migration strength searched for each pair of layers.

#ifndef QEFF_QUANT_SMOOTH_QUANT_H_
#define QEFF_QUANT_SMOOTH_QUANT_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/observer.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

struct SmoothQuantOptions {
  // Inputs about which it says nothing are taken for InputCodes::kPerToken:
  // that is how the device engine runs integers.
  QuantScheme scheme;
  DType scale_dtype = DType::kBF16;
  Observer observer = Observer::kMse;  // with InputCodes::kStatic
  // Rows of the layers that the search looks at, spread evenly.
  int64_t sampled_rows = 256;
};

struct SmoothQuantScales {
  // Of each channel: columns are multiplied and inputs divided by it. All 1
  // where nothing is better.
  std::vector<float> scales;
  double strength = 0;  // the migration strength, 0 where all are 1
  // Squared error of the outputs of the sampled rows on the sampled inputs,
  // with these and without.
  double loss = 0;
  double identity_loss = 0;
};

// Scales of the channels of the inputs that the linear layers `consumers`
// ([out, in] each) share: for the strength a with the least loss, none
// included,
//   s_j = (max |x_j|)^a / (max over rows of |W_rj|)^(1 - a)
// with a geometric middle of 1; 1 for channels without inputs or weights.
// `maxima`: the inputs' largest |x_j|; `inputs` [some, in]: a sample of them.
// `channel_of` (in elements, or empty for each its own): columns with the same
// number, below `channels`, get the same scale. Preconditions (checked): sizes,
// at least one consumer and input. The same bits for any number of threads.
// Thread-safe; throws std::bad_alloc. Cost: 15 * 2 * sampled_rows * in * some.
SmoothQuantScales SearchSmoothQuantScales(
    absl::Span<const MatrixView<const float>> consumers,
    absl::Span<const float> maxima, MatrixView<const float> inputs,
    absl::Span<const int64_t> channel_of, int64_t channels,
    const SmoothQuantOptions& options, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_SMOOTH_QUANT_H_
