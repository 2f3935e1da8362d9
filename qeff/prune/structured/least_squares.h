// SPDX-License-Identifier: Apache-2.0
//
// What must be added to a matrix so that its products lack least.

#ifndef QEFF_PRUNE_STRUCTURED_LEAST_SQUARES_H_
#define QEFF_PRUNE_STRUCTURED_LEAST_SQUARES_H_

#include <cstdint>

#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Sums over rows of inputs x [n, inputs] and errors e [n, outputs]. Products
// are summed in float32. Not thread-safe; throws std::bad_alloc.
class LeastSquares {
 public:
  LeastSquares(int64_t inputs, int64_t outputs)
      : hessian_(inputs, inputs), product_(outputs, inputs) {}

  // Preconditions (checked): the sizes.
  void Add(MatrixView<const float> inputs, MatrixView<const float> errors,
           ThreadPool& pool);

  // Adds to `weights` [outputs, inputs] the C that minimizes
  //   sum |e - C x|^2 + damping |C|^2,
  // damping being relative to the mean square of an input. False, and nothing
  // is added, where that cannot be solved (FactorHessian). Once, at the end.
  bool Correct(double damping, MatrixView<float> weights, ThreadPool& pool);

 private:
  Matrix<float> hessian_;  // sum of x x^T, on and above the diagonal
  Matrix<float> product_;  // sum of e x^T
};

}  // namespace qeff

#endif  // QEFF_PRUNE_STRUCTURED_LEAST_SQUARES_H_
