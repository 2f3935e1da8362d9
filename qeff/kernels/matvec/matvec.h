// SPDX-License-Identifier: Apache-2.0
//
// Products of a float matrix with one vector, the step that decoding one token
// at a time is made of, or with several, as prefill has them. One is bound by
// reading the matrix, so 16-bit weights are widened on the fly. Both give the
// same bits. Where other bits will do, matrix products on packed weights are
// faster for many vectors (qeff/xnnpack, qeff/kernels/matmul_bf16).

#ifndef QEFF_KERNELS_MATVEC_MATVEC_H_
#define QEFF_KERNELS_MATVEC_MATVEC_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// Number of partial sums of every product, on every machine.
inline constexpr int64_t kMatVecLanes = 32;

// Borrowed rows of float weights: element (r, c) begins at byte
// (r * stride_elems + c) * DTypeBytes(dtype) of `data`, which may have any
// alignment (safetensors promises none).
struct WeightRows {
  DType dtype = DType::kF32;  // kF32, kBF16 or kF16
  const uint8_t* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride_elems = 0;  // at least cols

  // Rows [begin, begin + count).
  WeightRows Rows(int64_t begin, int64_t count) const;
};

// Whether MatVec reads weights of this type.
constexpr bool MatVecSupports(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

// y[r] = sum over c of W[r, c] * x[c].
//
// Preconditions (checked): MatVecSupports(w.dtype), x.size() == w.cols,
// y.size() == w.rows, w.stride_elems >= w.cols >= 0. `y` must not overlap `x`
// or the weights; padding between rows is not read. Thread-safe. Runs on the
// calling thread: callers split the rows over threads.
//
// Numerics: weights are widened exactly; product c, rounded to float, is added
// to partial sum c % kMatVecLanes in the order of c; partial sums are then
// added in a tree, l and l + 16, l + 8, ... l + 1. No fused multiply-add. The
// result is therefore the same bits on every target, for any split of rows.
// With u = 2^-24, n = ceil(cols / 32) + 5 and no overflow:
//   |y - exact| <= (n + 1) u / (1 - (n + 1) u) * sum |W[r, c] x[c]|
// plus 2^-149 a product where products underflow. NaN and infinity propagate.
// Cost: bandwidth of `w` when it is larger than the caches.
void MatVec(const WeightRows& w, absl::Span<const float> x,
            absl::Span<float> y);

// Several vectors, one after another: vector t is x[t * stride_elems], ....
struct VectorRows {
  absl::Span<const float> x;
  int64_t count;         // at least 1
  int64_t stride_elems;  // at least the columns of the matrix
};

// y[t * y_stride_elems + r] = sum over c of W[r, c] * x[t * x.stride_elems + c]
//
// with the bits of MatVec for each vector, whatever the others are.
// Preconditions (checked): those of MatVec on `w`, and of VectorRows;
// y_stride_elems >= w.rows; x.x.size() >= (count - 1) * x.stride_elems +
// w.cols; y.size() >= (count - 1) * y_stride_elems + w.rows. `y` must not
// overlap `x` or the weights; padding between rows is neither read nor written.
// Thread-safe. Runs on the calling thread: callers split the rows over threads.
// Allocates nothing. Cost: the weights are read from memory once, and from the
// caches again for every few vectors; additions, multiplications and the caches
// bound it from about four vectors on.
void MatVecs(const WeightRows& w, const VectorRows& x, absl::Span<float> y,
             int64_t y_stride_elems);

}  // namespace qeff

#endif  // QEFF_KERNELS_MATVEC_MATVEC_H_
