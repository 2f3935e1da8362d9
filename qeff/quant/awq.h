// SPDX-License-Identifier: Apache-2.0
//
// AWQ: channels that carry much are scaled up before rounding, so that they
// lose less, and what produces them is scaled down: the model computes the same
// until it is rounded. For the pairs of a model's blocks see awq_folds.h.
//
// Source: Lin et al., "AWQ: Activation-aware Weight Quantization for LLM
// Compression and Acceleration", arXiv 2306.00978, section 3.2; with the loss
// of the layers' outputs by the inputs' Hessian, over which the paper's mean
// over tokens is taken, and the scales of its code that look at weights, too.

#ifndef QEFF_QUANT_AWQ_H_
#define QEFF_QUANT_AWQ_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

struct AwqOptions {
  QuantScheme scheme;
  DType scale_dtype = DType::kBF16;
  // Rows of the layers that the search looks at, spread evenly.
  int64_t sampled_rows = 256;
};

struct AwqScales {
  // Of each channel: columns are multiplied by it. All 1 where nothing is
  // better.
  std::vector<float> scales;
  // Squared error of the outputs of the sampled rows, with these and without.
  double loss = 0;
  double identity_loss = 0;
};

// Scales of the channels of the inputs that the linear layers `consumers`
// ([out, in] each) share. `magnitudes`: the inputs' mean |x_j|; `hessian`
// [in, in]: their mean of x x^T, of which what is on and above the diagonal is
// read. `channel_of` (in elements, or empty for each its own): columns with the
// same number, below `channels`, get the same scale. Never worse than none on
// the rows that are looked at. Preconditions (checked): sizes, at least one
// consumer. The same bits for any number of threads. Thread-safe; throws
// std::bad_alloc. Cost: 40 sampled_rows in^2 multiplications and additions.
AwqScales SearchAwqScales(absl::Span<const MatrixView<const float>> consumers,
                          absl::Span<const double> magnitudes,
                          const Matrix<float>& hessian,
                          absl::Span<const int64_t> channel_of,
                          int64_t channels, const AwqOptions& options,
                          ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_AWQ_H_
