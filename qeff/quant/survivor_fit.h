// SPDX-License-Identifier: Apache-2.0
//
// What is left of a pruned layer makes up for what was removed: the weights
// that are not 0 become those that bring the layer's outputs closest to the
// wanted ones, and weights that are 0 stay 0.

#ifndef QEFF_QUANT_SURVIVOR_FIT_H_
#define QEFF_QUANT_SURVIVOR_FIT_H_

#include <cstdint>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

struct SurvivorFitOptions {
  // Over the columns. With 6 or 12 a model's divergence is that of 4 to one
  // percent.
  int passes = 4;
  // 0: what is 0 stays 0. Else masks get better, too: within groups of so many
  // consecutive columns of a row, at most kFitBlock, a weight that is 0 takes
  // the place of one that is not where that loses less, as long as it is wanted
  // to be other than 0; the number of zeros of a group stays.
  int64_t swap_group = 0;
};

// Columns that are gone through at a time.
inline constexpr int64_t kFitBlock = 128;

// Lowers trace((W - Q) H (W - Q)^T) over the elements of `pruned` Q [rows,
// cols] that are not 0, for `wanted` W of that size and `hessian` H
// [cols, cols], symmetric and damped (FactoredHessian::damped): coordinate
// descent, block by block of columns. It never rises but for rounding. Returns
// it, by row. Cost: 2 (passes + 1) rows cols^2 multiplications and additions as
// products of blocks, a little more for descents. Memory: two matrices of up to
// 2048 rows. The same bits for any number of threads. Preconditions (checked):
// the sizes. Throws std::bad_alloc.
std::vector<double> FitSurvivors(MatrixView<const float> wanted,
                                 MatrixView<const float> hessian,
                                 const SurvivorFitOptions& options,
                                 MatrixView<float> pruned, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_SURVIVOR_FIT_H_
