// SPDX-License-Identifier: Apache-2.0
//
// Some of many rows, drawn while they go by.

#ifndef QEFF_CALIBRATION_ROW_SAMPLE_H_
#define QEFF_CALIBRATION_ROW_SAMPLE_H_

#include <cstdint>
#include <vector>

#include "qeff/tensor/tensor.h"

namespace qeff {

// Keeps all rows until there are more than `capacity`, then about half of them,
// then about a quarter, ...: each row with the same chance, by a hash of its
// number, so that a period in the text is none in the sample. The same rows for
// the same input, however it is cut into calls. Not thread-safe.
class RowSample {
 public:
  // Takes capacity * cols floats. Throws std::bad_alloc. Precondition
  // (checked): capacity is positive.
  RowSample(int64_t capacity, int64_t cols);

  // Precondition (checked): as many columns.
  void Add(MatrixView<const float> rows);

  // In the order that they came. Valid until the next Add.
  MatrixView<const float> rows() const {
    return kept_.view().Rows(0, static_cast<int64_t>(numbers_.size()));
  }

 private:
  bool Belongs(int64_t number) const;
  // Drops what does not belong any more.
  void Thin();

  Matrix<float> kept_;
  std::vector<int64_t> numbers_;  // of the rows that are kept
  int64_t seen_ = 0;
  int halvings_ = 0;
};

}  // namespace qeff

#endif  // QEFF_CALIBRATION_ROW_SAMPLE_H_
