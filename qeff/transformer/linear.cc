// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/linear.h"

#include <algorithm>
#include <cstdint>

#include "qeff/transformer/for_rows.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

void Multiply(MatrixView<const float> x, const LinearView& linear,
              SgemmUpdate update, MatrixView<float> y, ThreadPool& pool,
              SgemmScratch& scratch) {
  SgemmArgs args;
  args.a = x;
  args.b = linear.weight;
  args.b_transposed = true;
  args.c = y;
  args.update = update;
  Sgemm(args, pool, scratch);
}

// sums[c] += sum over the rows of dy, for 64 columns or fewer.
void AddColumnSums(MatrixView<const float> dy, float* sums) {
  constexpr int64_t kRun = 128;
  float run[64];
  QEFF_DCHECK(dy.cols() <= 64);
  for (int64_t begin = 0; begin < dy.rows(); begin += kRun) {
    const int64_t end = std::min(begin + kRun, dy.rows());
    std::fill_n(run, dy.cols(), 0.0f);
    for (int64_t r = begin; r < end; ++r) {
      const float* row = dy.row(r);
      for (int64_t c = 0; c < dy.cols(); ++c) run[c] += row[c];
    }
    for (int64_t c = 0; c < dy.cols(); ++c) sums[c] += run[c];
  }
}

}  // namespace

void AddLinear(MatrixView<const float> x, const LinearView& linear,
               MatrixView<float> y, ThreadPool& pool, SgemmScratch& scratch) {
  if (!linear.bias.empty()) {
    QEFF_CHECK(static_cast<int64_t>(linear.bias.size()) == y.cols());
    ForRows(y.rows(), y.cols(), pool, [&](int64_t begin, int64_t count) {
      for (int64_t r = begin; r < begin + count; ++r) {
        float* row = y.row(r);
        const float* bias = linear.bias.data();
        for (int64_t c = 0; c < y.cols(); ++c) row[c] += bias[c];
      }
    });
  }
  Multiply(x, linear, SgemmUpdate::kAdd, y, pool, scratch);
}

void ApplyLinear(MatrixView<const float> x, const LinearView& linear,
                 MatrixView<float> y, ThreadPool& pool, SgemmScratch& scratch) {
  if (linear.bias.empty()) {
    return Multiply(x, linear, SgemmUpdate::kSet, y, pool, scratch);
  }
  QEFF_CHECK(static_cast<int64_t>(linear.bias.size()) == y.cols());
  ForRows(y.rows(), y.cols(), pool, [&](int64_t begin, int64_t count) {
    for (int64_t r = begin; r < begin + count; ++r) {
      std::copy_n(linear.bias.data(), y.cols(), y.row(r));
    }
  });
  Multiply(x, linear, SgemmUpdate::kAdd, y, pool, scratch);
}

void LinearInputBackward(MatrixView<const float> dy,
                         MatrixView<const float> weight, SgemmUpdate update,
                         MatrixView<float> dx, ThreadPool& pool,
                         SgemmScratch& scratch) {
  SgemmArgs args;
  args.a = dy;
  args.b = weight;
  args.c = dx;
  args.update = update;
  Sgemm(args, pool, scratch);
}

void LinearWeightsBackward(MatrixView<const float> x,
                           MatrixView<const float> dy,
                           const LinearGradientView& gradient, ThreadPool& pool,
                           SgemmScratch& scratch) {
  SgemmArgs args;
  args.a = dy;
  args.a_transposed = true;
  args.b = x;
  args.c = gradient.weight;
  args.update = SgemmUpdate::kAdd;
  Sgemm(args, pool, scratch);
  if (gradient.bias.empty()) return;
  QEFF_CHECK(static_cast<int64_t>(gradient.bias.size()) == dy.cols());
  constexpr int64_t kCols = 64;
  pool.ParallelFor((dy.cols() + kCols - 1) / kCols, /*grain=*/1,
                   [&](int64_t begin, int64_t end, int) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t c = i * kCols;
                       AddColumnSums(dy.Cols(c, std::min(kCols, dy.cols() - c)),
                                     gradient.bias.data() + c);
                     }
                   });
}

}  // namespace qeff
