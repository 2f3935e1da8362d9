// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/upper_factor.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "Eigen/Cholesky"
#include "Eigen/Core"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

using Block =
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

MatrixView<float> Part(MatrixView<float> m, int64_t row, int64_t rows,
                       int64_t col, int64_t cols) {
  return m.Rows(row, rows).Cols(col, cols);
}

// R of a block on the diagonal, and its inverse. False: not positive definite.
bool FactorBlock(MatrixView<float> h, MatrixView<float> inverse) {
  const int64_t n = h.rows();
  Block reversed(n, n);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      const int64_t i = n - 1 - r, j = n - 1 - c;
      reversed(r, c) = i <= j ? h.row(i)[j] : h.row(j)[i];
    }
  }
  const Eigen::LLT<Block> factor(reversed);
  if (factor.info() != Eigen::Success) return false;
  const Block lower = factor.matrixL();
  if (!lower.allFinite()) return false;
  const Block inverse_lower = factor.matrixL().solve(Block::Identity(n, n));
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = 0; c < n; ++c) {
      const int64_t i = n - 1 - r, j = n - 1 - c;
      if (r <= c) h.row(r)[c] = static_cast<float>(lower(i, j));
      inverse.row(r)[c] = static_cast<float>(inverse_lower(i, j));
    }
  }
  return true;
}

}  // namespace

bool FactorUpper(MatrixView<float> h, Matrix<float>* inverses,
                 ThreadPool& pool) {
  const int64_t n = h.rows();
  QEFF_CHECK(h.cols() == n);
  Matrix<float> panel(n, std::min(n, kFactorBlock));
  *inverses = Matrix<float>(n, panel.cols());
  for (int64_t end = n; end > 0;) {
    const int64_t begin = (end - 1) / kFactorBlock * kFactorBlock;
    const int64_t size = end - begin;
    const MatrixView<float> inverse =
        inverses->view().Rows(begin, size).Cols(0, size);
    if (!FactorBlock(Part(h, begin, size, begin, size), inverse)) return false;
    // Above the block: R = H (R_block^T)^-1.
    const MatrixView<float> above = Part(h, 0, begin, begin, size);
    const MatrixView<float> copy(panel.data(), begin, size);
    for (int64_t r = 0; r < begin; ++r) {
      std::copy_n(above.row(r), size, copy.row(r));
    }
    SgemmArgs solve;
    solve.a = copy;
    solve.b = inverse;
    solve.b_transposed = true;
    solve.c = above;
    Sgemm(solve, pool);
    SgemmArgs update;
    update.a = update.b = above;
    update.b_transposed = true;
    update.c = Part(h, 0, begin, 0, begin);
    update.update = SgemmUpdate::kSubtract;
    update.upper_only = true;
    Sgemm(update, pool);
    end = begin;
  }
  return true;
}

}  // namespace qeff
