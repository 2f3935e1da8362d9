// SPDX-License-Identifier: Apache-2.0
//
// Shapes, borrowed tensors and matrix views. No arithmetic happens here.

#ifndef QEFF_TENSOR_TENSOR_H_
#define QEFF_TENSOR_TENSOR_H_

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/aligned.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {

// Sizes of a row-major tensor, outermost first; rank 0 is a scalar. Sizes may
// be 0. Thread-compatible.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : dims_(dims) {}
  explicit Shape(absl::Span<const int64_t> dims)
      : dims_(dims.begin(), dims.end()) {}

  size_t rank() const { return dims_.size(); }
  int64_t operator[](size_t i) const { return dims_[i]; }
  absl::Span<const int64_t> dims() const { return dims_; }

  // Product of the sizes; invalid when one is negative or it overflows.
  CheckedU64 num_elements() const {
    CheckedU64 product = 1;
    for (int64_t dim : dims_) product = product * dim;
    return product;
  }

  // "[2, 3]".
  std::string ToString() const;

  friend bool operator==(const Shape& a, const Shape& b) {
    return a.dims_ == b.dims_;
  }
  friend bool operator!=(const Shape& a, const Shape& b) { return !(a == b); }

 private:
  absl::InlinedVector<int64_t, 4> dims_;
};

// Borrowed, read-only, row-major elements: bytes.size() is the product of the
// shape times the element size. The bytes may be unaligned (safetensors gives
// no promise): read them with memcpy or kernels that allow it.
struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  absl::Span<const uint8_t> bytes;

  int64_t num_elements() const {
    return static_cast<int64_t>(bytes.size() / DTypeBytes(dtype));
  }
};

// Borrowed matrix of [rows, cols] elements; row r begins at data + r * stride.
template <typename T>
class MatrixView {
 public:
  MatrixView() = default;
  MatrixView(T* data, int64_t rows, int64_t cols)
      : MatrixView(data, rows, cols, cols) {}
  MatrixView(T* data, int64_t rows, int64_t cols, int64_t stride_elems)
      : data_(data), rows_(rows), cols_(cols), stride_elems_(stride_elems) {
    QEFF_CHECK(rows >= 0 && cols >= 0 && stride_elems >= cols);
  }
  // A mutable view converts to a const one.
  template <typename U>
  MatrixView(const MatrixView<U>& other)  // NOLINT: implicit like T* -> U*
      : MatrixView(other.data(), other.rows(), other.cols(),
                   other.stride_elems()) {}

  T* data() const { return data_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t stride_elems() const { return stride_elems_; }
  T* row(int64_t r) const {
    QEFF_DCHECK(r >= 0 && r < rows_);
    return data_ + r * stride_elems_;
  }
  // Rows [begin, begin + count).
  MatrixView Rows(int64_t begin, int64_t count) const {
    QEFF_DCHECK(begin >= 0 && count >= 0 && begin + count <= rows_);
    return MatrixView(data_ + begin * stride_elems_, count, cols_,
                      stride_elems_);
  }
  // Columns [begin, begin + count).
  MatrixView Cols(int64_t begin, int64_t count) const {
    QEFF_DCHECK(begin >= 0 && count >= 0 && begin + count <= cols_);
    return MatrixView(data_ + begin, rows_, count, stride_elems_);
  }

 private:
  T* data_ = nullptr;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  int64_t stride_elems_ = 0;
};

// An owned, 64-byte aligned, contiguous [rows, cols] matrix, zeroed on
// creation. Movable. Thread-compatible.
template <typename T>
class Matrix {
 public:
  Matrix() = default;
  Matrix(int64_t rows, int64_t cols)
      : values_(static_cast<size_t>((CheckedU64(rows) * cols).value())),
        rows_(rows),
        cols_(cols) {}

  T* data() { return values_.data(); }
  const T* data() const { return values_.data(); }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  bool empty() const { return values_.empty(); }
  T* row(int64_t r) { return values_.data() + r * cols_; }
  const T* row(int64_t r) const { return values_.data() + r * cols_; }
  absl::Span<T> span() { return values_.span(); }
  absl::Span<const T> span() const { return values_.span(); }
  MatrixView<T> view() { return MatrixView<T>(data(), rows_, cols_); }
  MatrixView<const T> view() const {
    return MatrixView<const T>(data(), rows_, cols_);
  }

 private:
  AlignedArray<T> values_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

// Reads `out.size()` elements of the floating tensor `tensor`, beginning at
// element `first`, as float32 (F64 is rounded to nearest). One element at a
// time; kernels/convert is the fast way.
// Preconditions (checked): IsFloating(tensor.dtype), the range lies inside.
void ReadFloats(const TensorView& tensor, int64_t first, absl::Span<float> out);

}  // namespace qeff

#endif  // QEFF_TENSOR_TENSOR_H_
