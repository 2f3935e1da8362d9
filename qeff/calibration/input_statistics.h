// SPDX-License-Identifier: Apache-2.0
//
// What calibration learns of the inputs of a linear layer.

#ifndef QEFF_CALIBRATION_INPUT_STATISTICS_H_
#define QEFF_CALIBRATION_INPUT_STATISTICS_H_

#include <cstdint>
#include <vector>

#include "absl/types/optional.h"
#include "qeff/calibration/magnitude_histogram.h"
#include "qeff/calibration/row_sample.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// What is counted besides sums and maxima of magnitudes.
struct StatisticsOptions {
  bool hessian = true;
  bool magnitudes = false;   // MagnitudeHistogram
  int64_t sampled_rows = 0;  // RowSample's capacity
};

// Sums over rows x (tokens) of [features] values. Not thread-safe. The same
// rows in the same calls give the same bits for any number of threads.
class InputStatistics {
 public:
  // Throws std::bad_alloc. The Hessian takes 4 features (features + 1) bytes.
  explicit InputStatistics(int64_t features,
                           const StatisticsOptions& options = {});

  // Adds rows [n, features]. Precondition (checked): as many columns.
  void Add(MatrixView<const float> rows, ThreadPool& pool);

  int64_t features() const { return features_; }
  int64_t rows() const { return rows_; }
  // Whether all values were finite.
  bool finite() const { return finite_; }

  // Of feature j: sums of |x_j| and of x_j^2, and the largest |x_j|; 0 without
  // rows.
  const std::vector<double>& abs_sums() const { return abs_sums_; }
  const std::vector<double>& square_sums() const { return square_sums_; }
  const std::vector<float>& abs_maxima() const { return abs_maxima_; }

  // Preconditions (checked): counted.
  const MagnitudeHistogram& magnitudes() const;
  const RowSample& sample() const;

  // Adds what these inputs lack: `gap` [n, features] is the inputs of the
  // original model for the same tokens minus `rows`, and `residual_gap`
  // [n, outputs] (no rows: none) the same for what the layer's output is added
  // to. `rows` are those of a call of Add. Precondition (checked): sizes.
  void AddGap(MatrixView<const float> rows, MatrixView<const float> gap,
              MatrixView<const float> residual_gap, ThreadPool& pool);

  // Means over the rows of gap^T x [features, features] and of
  // residual_gap^T x [outputs, features], summed in float32; empty where none
  // was added. Each once, at the end.
  Matrix<float> TakeInputGap();
  Matrix<float> TakeResidualGap();

  // The Hessian of ||x W^T||^2 / 2 over the rows, their mean of x x^T:
  // [features, features], of which what is on and above the diagonal is set.
  // Products are summed in float32 over up to 2048 rows of a call, and these
  // sums in float64. Frees what it was made from: call it once, at the end.
  // Precondition (checked): counted.
  Matrix<float> TakeHessian();

 private:
  // Rows [row, row + size) and columns [col, col + size) of the Hessian.
  struct Tile {
    int64_t row, col, size;
  };
  // What a thread has for its tiles.
  struct Scratch {
    Matrix<float> product;
    SgemmScratch blocks;
  };

  void AddHessian(MatrixView<const float> rows, ThreadPool& pool);
  void AddTile(MatrixView<const float> rows, const Tile& tile,
               Scratch* scratch);
  Matrix<float> MeanOf(Matrix<float> sum) const;
  // Where row i of the triangle begins, at element (i, i).
  double* TriangleRow(int64_t i) {
    return triangle_.data() + i * features_ - i * (i - 1) / 2;
  }

  int64_t features_;
  bool hessian_;
  int64_t rows_ = 0;
  bool finite_ = true;
  std::vector<double> abs_sums_;
  std::vector<double> square_sums_;
  std::vector<float> abs_maxima_;
  absl::optional<MagnitudeHistogram> magnitudes_;
  absl::optional<RowSample> sample_;
  AlignedArray<double> triangle_;  // rows of the upper triangle
  std::vector<Scratch> scratch_;   // of threads
  Matrix<float> input_gap_;        // sum of gap^T x
  Matrix<float> residual_gap_;
};

}  // namespace qeff

#endif  // QEFF_CALIBRATION_INPUT_STATISTICS_H_
