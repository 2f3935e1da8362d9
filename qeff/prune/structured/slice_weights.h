// SPDX-License-Identifier: Apache-2.0
//
// The weights of what a plan keeps.

#ifndef QEFF_PRUNE_STRUCTURED_SLICE_WEIGHTS_H_
#define QEFF_PRUNE_STRUCTURED_SLICE_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/prune/structured/structured_plan.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Rows, or columns, `kept` of `from`, in that order. Preconditions: they
// exist. All throw std::bad_alloc.
Matrix<float> SelectRows(MatrixView<const float> from,
                         absl::Span<const int64_t> kept);
Matrix<float> SelectCols(MatrixView<const float> from,
                         absl::Span<const int64_t> kept);
std::vector<float> Select(absl::Span<const float> from,
                          absl::Span<const int64_t> kept);

// Columns of o's inputs, which are rows of q, that belong to `kv_groups`; and
// rows of k and v.
std::vector<int64_t> HeadChannels(const TransformerSpec& spec,
                                  absl::Span<const int64_t> kv_groups);
std::vector<int64_t> KeyChannels(const TransformerSpec& spec,
                                 absl::Span<const int64_t> kv_groups);

// Channels of a norm.
NormWeights SliceNorm(const NormWeights& norm, absl::Span<const int64_t> kept);

// Layer `layer` of the result, from `weights` of the original layer
// plan.layers[layer]: values are copied, not changed.
BlockWeights SliceBlock(const TransformerSpec& spec, const StructuredPlan& plan,
                        size_t layer, const BlockWeights& weights);

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_SLICE_WEIGHTS_H_
