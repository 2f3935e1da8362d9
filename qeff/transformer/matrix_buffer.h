// SPDX-License-Identifier: Apache-2.0
//
// Memory of a matrix whose size changes from use to use.

#ifndef QEFF_TRANSFORMER_MATRIX_BUFFER_H_
#define QEFF_TRANSFORMER_MATRIX_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <new>

#include "qeff/tensor/tensor.h"
#include "qeff/util/aligned.h"
#include "qeff/util/checked.h"

namespace qeff {

// Grows and never shrinks. Movable. Not thread-safe.
class MatrixBuffer {
 public:
  // A contiguous matrix with whatever was there, until the next call. Throws
  // std::bad_alloc.
  MatrixView<float> Get(int64_t rows, int64_t cols) {
    const CheckedU64 elems = CheckedU64(rows) * cols;
    if (!elems.valid()) throw std::bad_alloc();
    if (values_.size() < elems.value()) {
      values_ = AlignedArray<float>();  // free first
      values_ = AlignedArray<float>(static_cast<size_t>(elems.value()));
    }
    view_ = MatrixView<float>(values_.data(), rows, cols);
    return view_;
  }

  // What Get gave last.
  MatrixView<float> view() const { return view_; }

 private:
  AlignedArray<float> values_;
  MatrixView<float> view_;
};

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_MATRIX_BUFFER_H_
