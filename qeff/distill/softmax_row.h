// SPDX-License-Identifier: Apache-2.0
//
// Softmax of one row in float32 together with its logarithm, and sums over a
// row: what the losses of this package are made of. Rows of scratch memory have
// room for SoftmaxRoom elements, so that all loops are of whole vectors.

#ifndef QEFF_DISTILL_SOFTMAX_ROW_H_
#define QEFF_DISTILL_SOFTMAX_ROW_H_

#include <cstdint>

#include "qeff/util/checked.h"

namespace qeff {

// Sums run in this many interleaved parts, which vectorize.
constexpr int64_t kRowParts = 16;

// Elements after which parts of a sum move on to a double: sums of rounded
// terms stay good to about 2^-24 * sqrt(1024 / 16) for any length.
constexpr int64_t kRowRun = 1024;

// Elements that a row of `count` takes.
inline int64_t SoftmaxRoom(int64_t count) { return RoundUp(count, kRowParts); }

// With u_i = factor (x_i - max x): sets log_p to ln softmax(u) and p to
// softmax(u), with -infinity and 0 behind them up to SoftmaxRoom(count), and
// returns ln sum_i e^(factor x_i). p is 0 below about e^-87 times the largest;
// the logarithms hold beyond that. Nothing overlaps.
// Precondition: count >= 1. The results are NaN if an x is NaN or +infinity, or
// if all are -infinity. The same bits on every machine but for the C library's
// log in double.
double SoftmaxRow(const float* x, int64_t count, float factor, float* log_p,
                  float* p);

// Adds up term(i) for i < count. The order of the sum depends on the count
// only. Inlined, with `term`, into callers that are compiled for wider vectors
// (QEFF_VECTOR_CLONES).
template <typename Term>
inline __attribute__((always_inline)) double SumRow(int64_t count, Term term) {
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += kRowRun) {
    const int64_t end = begin + kRowRun < count ? begin + kRowRun : count;
    float parts[kRowParts] = {};
    int64_t i = begin;
    for (; i + kRowParts <= end; i += kRowParts) {
      for (int64_t p = 0; p < kRowParts; ++p) parts[p] += term(i + p);
    }
    for (; i < end; ++i) parts[i % kRowParts] += term(i);
    for (int64_t width = kRowParts / 2; width > 0; width /= 2) {
      for (int64_t p = 0; p < width; ++p) parts[p] += parts[p + width];
    }
    sum += static_cast<double>(parts[0]);
  }
  return sum;
}

}  // namespace qeff

#endif  // QEFF_DISTILL_SOFTMAX_ROW_H_
