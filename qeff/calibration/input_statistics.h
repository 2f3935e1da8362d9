// SPDX-License-Identifier: Apache-2.0
//
// What calibration learns of the inputs of a linear layer.

#ifndef QEFF_CALIBRATION_INPUT_STATISTICS_H_
#define QEFF_CALIBRATION_INPUT_STATISTICS_H_

#include <cstdint>
#include <vector>

#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Sums over rows x (tokens) of [features] values. Not thread-safe. The same
// rows in the same calls give the same bits for any number of threads.
class InputStatistics {
 public:
  // Throws std::bad_alloc. The Hessian takes 4 features (features + 1) bytes.
  explicit InputStatistics(int64_t features);

  // Adds rows [n, features]. Precondition (checked): as many columns.
  void Add(MatrixView<const float> rows, ThreadPool& pool);

  int64_t features() const { return features_; }
  int64_t rows() const { return rows_; }
  // Whether all values were finite.
  bool finite() const { return finite_; }

  // Of feature j: sum of |x_j|, and the largest |x_j|; 0 without rows.
  const std::vector<double>& abs_sums() const { return abs_sums_; }
  const std::vector<float>& abs_maxima() const { return abs_maxima_; }

  // The Hessian of ||x W^T||^2 / 2 over the rows, their mean of x x^T:
  // [features, features], of which what is on and above the diagonal is set.
  // Products are summed in float32 over up to 2048 rows of a call, and these
  // sums in float64. Frees what it was made from: call it once, at the end.
  Matrix<float> TakeHessian();

 private:
  void AddHessian(MatrixView<const float> rows, ThreadPool& pool);
  // Where row i of the triangle begins, at element (i, i).
  double* TriangleRow(int64_t i) {
    return triangle_.data() + i * features_ - i * (i - 1) / 2;
  }

  int64_t features_;
  int64_t rows_ = 0;
  bool finite_ = true;
  std::vector<double> abs_sums_;
  std::vector<float> abs_maxima_;
  AlignedArray<double> triangle_;  // rows of the upper triangle
  Matrix<float> band_;             // of the rows of a call
};

}  // namespace qeff

#endif  // QEFF_CALIBRATION_INPUT_STATISTICS_H_
