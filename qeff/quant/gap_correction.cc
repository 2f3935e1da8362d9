// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gap_correction.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/add_scaled.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Columns that are solved one by one; those of other blocks come as a product.
constexpr int64_t kBlock = 128;

constexpr int64_t kRowsOfTask = 16;

// Calls body(row) for each row.
template <typename Body>
void ForRows(int64_t rows, ThreadPool& pool, Body body) {
  pool.ParallelFor(rows, kRowsOfTask,
                   [&](int64_t row, int64_t end, int /*thread*/) {
                     for (; row < end; ++row) body(row);
                   });
}

// x = x R^-T: columns from last to first.
void SolveTransposed(MatrixView<const float> r, MatrixView<float> x,
                     ThreadPool& pool) {
  const int64_t n = r.rows();
  for (int64_t end = n; end > 0;) {
    const int64_t begin = (end - 1) / kBlock * kBlock;
    const int64_t size = end - begin;
    const auto block = x.Cols(begin, size);
    SgemmArgs args;
    args.a = x.Cols(end, n - end);
    args.b = r.Rows(begin, size).Cols(end, n - end);
    args.b_transposed = true;
    args.c = block;
    args.update = SgemmUpdate::kSubtract;
    if (end < n) Sgemm(args, pool);
    // Column j of the transposed block, so that what it adds lies in a row.
    Matrix<float> turned(size, size);
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = i; j < size; ++j) {
        turned.row(j)[i] = r.row(begin + i)[begin + j];
      }
    }
    ForRows(x.rows(), pool, [&](int64_t row) {
      float* values = block.row(row);
      for (int64_t j = size - 1; j >= 0; --j) {
        const float* factors = turned.row(j);
        values[j] /= factors[j];
        AddScaled(j, -values[j], factors, values);
      }
    });
    end = begin;
  }
}

// x = x R^-1: columns from first to last.
void Solve(MatrixView<const float> r, MatrixView<float> x, ThreadPool& pool) {
  const int64_t n = r.rows();
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t size = std::min(kBlock, n - begin);
    const auto block = x.Cols(begin, size);
    SgemmArgs args;
    args.a = x.Cols(0, begin);
    args.b = r.Rows(0, begin).Cols(begin, size);
    args.c = block;
    args.update = SgemmUpdate::kSubtract;
    if (begin > 0) Sgemm(args, pool);
    ForRows(x.rows(), pool, [&](int64_t row) {
      float* values = block.row(row);
      for (int64_t i = 0; i < size; ++i) {
        const float* factors = r.row(begin + i) + begin;
        values[i] /= factors[i];
        AddScaled(size - i - 1, -values[i], factors + i + 1, values + i + 1);
      }
    });
  }
}

// Columns in the order of the factor.
void Permute(const FactoredHessian& hessian, MatrixView<const float> from,
             MatrixView<float> to, ThreadPool& pool) {
  ForRows(from.rows(), pool, [&](int64_t row) {
    for (int64_t i = 0; i < from.cols(); ++i) {
      to.row(row)[i] = from.row(row)[hessian.order[static_cast<size_t>(i)]];
    }
  });
}

}  // namespace

void SolveHessian(const FactoredHessian& hessian, MatrixView<float> rows,
                  ThreadPool& pool) {
  QEFF_CHECK(hessian.usable() && hessian.factor.rows() == rows.cols());
  Matrix<float> ordered(rows.rows(), rows.cols());
  Permute(hessian, rows, ordered.view(), pool);
  SolveTransposed(hessian.factor.view(), ordered.view(), pool);
  Solve(hessian.factor.view(), ordered.view(), pool);
  ForRows(rows.rows(), pool, [&](int64_t row) {
    for (int64_t i = 0; i < rows.cols(); ++i) {
      rows.row(row)[hessian.order[static_cast<size_t>(i)]] =
          ordered.row(row)[i];
    }
  });
}

void CorrectForGaps(const FactoredHessian& hessian,
                    MatrixView<const float> input_gap,
                    MatrixView<const float> residual_gap,
                    MatrixView<float> weights, ThreadPool& pool) {
  const int64_t rows = weights.rows(), cols = weights.cols();
  QEFF_CHECK(hessian.usable() && hessian.factor.rows() == cols);
  QEFF_CHECK(input_gap.rows() == cols && input_gap.cols() == cols);
  const bool residual = residual_gap.rows() > 0;
  QEFF_CHECK(!residual ||
             (residual_gap.rows() == rows && residual_gap.cols() == cols));
  Matrix<float> product(rows, cols);
  SgemmArgs args;
  args.a = weights;
  args.b = input_gap;
  args.c = product.view();
  Sgemm(args, pool);
  if (residual) {
    ForRows(rows, pool, [&](int64_t row) {
      AddScaled(cols, 1, residual_gap.row(row), product.row(row));
    });
  }
  SolveHessian(hessian, product.view(), pool);
  ForRows(rows, pool, [&](int64_t row) {
    AddScaled(cols, 1, product.row(row), weights.row(row));
  });
}

}  // namespace qeff
