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

// Passes over the columns that FitSurvivors takes by default: more gain less
// than one percent of what is lost (README.md of qeff/prune).
inline constexpr int kFitPasses = 6;

// Lowers trace((W - Q) H (W - Q)^T) over the elements of `pruned` Q [rows,
// cols] that are not 0, for `wanted` W of that size and `hessian` H
// [cols, cols], symmetric and damped (FactoredHessian::damped): coordinate
// descent, block by block of columns, `passes` times. It never rises but for
// rounding. Returns it, by row. Cost: 2 (passes + 1) rows cols^2
// multiplications and additions as products of blocks, a little more for
// descents. Memory: two matrices of up to 512 rows. The same bits for any
// number of threads. Preconditions (checked): the sizes. Throws std::bad_alloc.
std::vector<double> FitSurvivors(MatrixView<const float> wanted,
                                 MatrixView<const float> hessian, int passes,
                                 MatrixView<float> pruned, ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_QUANT_SURVIVOR_FIT_H_
