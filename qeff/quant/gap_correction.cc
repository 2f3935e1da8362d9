// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gap_correction.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/add_scaled.h"
#include "qeff/quant/upper_factor.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;

// Calls body(row) for each row.
template <typename Body>
void ForRows(int64_t rows, ThreadPool& pool, Body body) {
  pool.ParallelFor(rows, kRowsOfTask,
                   [&](int64_t row, int64_t end, int /*thread*/) {
                     for (; row < end; ++row) body(row);
                   });
}

// Solves for x, [rows, n], in place, in blocks of columns: what other columns
// give comes as products, of all at once for kOuter columns and then of those
// among them, and the rest is a product with the inverse of the block.
class TriangularSolver {
 public:
  TriangularSolver(const FactoredHessian& hessian, MatrixView<float> x,
                   ThreadPool& pool)
      : r_(hessian.factor.view()),
        inverses_(hessian.inverses.view()),
        x_(x),
        pool_(pool),
        copy_(x.rows(), inverses_.cols()) {}

  // x = x R^-1: columns from first to last.
  void Solve() {
    for (int64_t outer = 0; outer < n(); outer += kOuter) {
      const int64_t outer_end = std::min(outer + kOuter, n());
      Subtract(0, outer, outer, outer_end, /*transposed=*/false);
      for (int64_t begin = outer; begin < outer_end; begin += kFactorBlock) {
        const int64_t end = std::min(begin + kFactorBlock, outer_end);
        Subtract(outer, begin, begin, end, /*transposed=*/false);
        SolveBlock(begin, end, /*transposed=*/false);
      }
    }
  }

  // x = x R^-T: columns from last to first.
  void SolveTransposed() {
    for (int64_t outer = (n() - 1) / kOuter * kOuter; outer >= 0;
         outer -= kOuter) {
      const int64_t outer_end = std::min(outer + kOuter, n());
      Subtract(outer_end, n(), outer, outer_end, /*transposed=*/true);
      for (int64_t begin = (outer_end - 1) / kFactorBlock * kFactorBlock;
           begin >= outer; begin -= kFactorBlock) {
        const int64_t end = std::min(begin + kFactorBlock, outer_end);
        Subtract(end, outer_end, begin, end, /*transposed=*/true);
        SolveBlock(begin, end, /*transposed=*/true);
      }
    }
  }

 private:
  static constexpr int64_t kOuter = 4 * kFactorBlock;

  int64_t n() const { return r_.cols(); }

  // From columns [begin, end), what columns [first, last) give to them.
  void Subtract(int64_t first, int64_t last, int64_t begin, int64_t end,
                bool transposed) {
    if (first == last) return;
    SgemmArgs args;
    args.a = x_.Cols(first, last - first);
    args.b = transposed ? r_.Rows(begin, end - begin).Cols(first, last - first)
                        : r_.Rows(first, last - first).Cols(begin, end - begin);
    args.b_transposed = transposed;
    args.c = x_.Cols(begin, end - begin);
    args.update = SgemmUpdate::kSubtract;
    Sgemm(args, pool_, scratch_);
  }

  void SolveBlock(int64_t begin, int64_t end, bool transposed) {
    const int64_t size = end - begin;
    ForRows(x_.rows(), pool_, [&](int64_t row) {
      std::copy_n(x_.row(row) + begin, size, copy_.row(row));
    });
    SgemmArgs args;
    args.a = copy_.view().Cols(0, size);
    args.b = inverses_.Rows(begin, size).Cols(0, size);
    args.b_transposed = transposed;
    args.c = x_.Cols(begin, size);
    Sgemm(args, pool_, scratch_);
  }

  const MatrixView<const float> r_;
  const MatrixView<const float> inverses_;
  const MatrixView<float> x_;
  ThreadPool& pool_;
  SgemmScratch scratch_;
  Matrix<float> copy_;  // of a block
};

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
  TriangularSolver solver(hessian, ordered.view(), pool);
  solver.SolveTransposed();
  solver.Solve();
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
