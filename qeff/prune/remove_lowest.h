// SPDX-License-Identifier: Apache-2.0
//
// Masks from scores: which weights are removed when each has a score. A removed
// weight is 0, and that is all that a mask is: see README.md.

#ifndef QEFF_PRUNE_REMOVE_LOWEST_H_
#define QEFF_PRUNE_REMOVE_LOWEST_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/calibration/input_statistics.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/prune/sparsity_pattern.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Of each input the root of its mean square: Wanda's importance. Precondition:
// there are rows.
std::vector<float> InputNorms(const InputStatistics& inputs);

// Where scores are compared when the pattern has no groups.
enum class ScoreScope : uint8_t {
  kRow,     // the inputs of an output, as Wanda does
  kMatrix,  // all weights, as magnitude pruning does
};

// Sets the weights with the lowest scores
//   |weights[r, c]| * importance[c]
// to 0, pattern.Removed of them: of each group, each row, or all. Weights that
// are 0 already count as removed ones. Of equal scores the earlier goes first.
// `importance` [cols] is not negative; empty: 1 for all. With kRow it is
// Wanda's score if importance is InputNorms, and magnitude pruning of each row
// without. Memory with kMatrix: 16 bytes a
// weight. The same result for any number of threads. Thread-safe; throws
// std::bad_alloc. Precondition (checked): the sizes.
//
// Source: Sun et al., "A Simple and Effective Pruning Approach for Large
// Language Models", arXiv 2306.11695.
void RemoveLowest(const SparsityPattern& pattern, ScoreScope scope,
                  absl::Span<const float> importance, MatrixView<float> weights,
                  ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_PRUNE_REMOVE_LOWEST_H_
