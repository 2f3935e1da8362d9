// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/upper_factor.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "Eigen/Cholesky"
#include "Eigen/Core"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/timed_products.h"
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

// Rows and columns that are factored in double.
constexpr int64_t kDoubleBlock = kFactorBlock / 2;
// Columns for which what is above and to the left waits: one product with all
// of them reads and writes it once.
constexpr int64_t kPanel = 2 * kFactorBlock;

// Blocks on the diagonal, the columns above them and what these change.
class Factorization {
 public:
  Factorization(MatrixView<float> h, MatrixView<float> inverses,
                TimedProducts& products)
      : h_(h),
        inverses_(inverses),
        products_(products),
        copy_(h.rows(), std::min(h.rows(), kDoubleBlock)) {}

  // Columns [begin, end), of which those behind are done.
  bool FactorPanel(int64_t begin, int64_t end) {
    while (end > begin) {
      const int64_t start = (end - 1) / kDoubleBlock * kDoubleBlock;
      if (!FactorColumns(start, end)) return false;
      Subtract(begin, start, start, end, /*triangle=*/false);
      if (start % kFactorBlock == 0) InvertBlock(start);
      end = start;
    }
    return true;
  }

  // Takes the product of columns [begin, end) off what is left of them.
  void SubtractPanel(int64_t begin, int64_t end) {
    Subtract(0, begin, begin, end, /*triangle=*/true);
  }

 private:
  // The inverse of R's block on the diagonal, of kDoubleBlock columns.
  MatrixView<float> InverseOf(int64_t begin, int64_t size) {
    return Part(inverses_, begin, size, begin % kFactorBlock, size);
  }

  bool FactorColumns(int64_t begin, int64_t end) {
    const int64_t size = end - begin;
    const MatrixView<float> inverse = InverseOf(begin, size);
    if (!FactorBlock(Part(h_, begin, size, begin, size), inverse)) return false;
    // Above the block: R = H (R_block^T)^-1.
    const MatrixView<float> above = Part(h_, 0, begin, begin, size);
    const MatrixView<float> copy(copy_.data(), begin, size);
    for (int64_t r = 0; r < begin; ++r) {
      std::copy_n(above.row(r), size, copy.row(r));
    }
    SgemmArgs solve;
    solve.a = copy;
    solve.b = inverse;
    solve.b_transposed = true;
    solve.c = above;
    products_.Run(solve);
    return true;
  }

  // Rows [0, to) of columns [from, to) less their rows' products in columns
  // [begin, end).
  void Subtract(int64_t from, int64_t to, int64_t begin, int64_t end,
                bool triangle) {
    SgemmArgs update;
    update.a = Part(h_, 0, to, begin, end - begin);
    update.b = Part(h_, from, to - from, begin, end - begin);
    update.b_transposed = true;
    update.c = Part(h_, 0, to, from, to - from);
    update.update = SgemmUpdate::kSubtract;
    update.upper_only = triangle;
    products_.Run(update);
  }

  // With blocks A, B and D of R's block, of which A^-1 and D^-1 are known: what
  // is above D^-1 in its inverse, -A^-1 B D^-1.
  void InvertBlock(int64_t begin) {
    const int64_t middle = begin + kDoubleBlock;
    const int64_t size = std::min(h_.rows(), begin + kFactorBlock) - middle;
    if (size <= 0) return;
    Matrix<float> product(kDoubleBlock, size);
    SgemmArgs first;
    first.a = Part(h_, begin, kDoubleBlock, middle, size);
    first.b = InverseOf(middle, size);
    first.c = product.view();
    products_.Run(first);
    SgemmArgs second;
    second.a = InverseOf(begin, kDoubleBlock);
    second.b = product.view();
    second.c = Part(inverses_, begin, kDoubleBlock, kDoubleBlock, size);
    second.update = SgemmUpdate::kSubtract;
    products_.Run(second);
  }

  MatrixView<float> h_;
  MatrixView<float> inverses_;
  TimedProducts& products_;
  Matrix<float> copy_;
};

}  // namespace

bool FactorUpper(MatrixView<float> h, Matrix<float>* inverses,
                 TimedProducts& products) {
  const int64_t n = h.rows();
  QEFF_CHECK(h.cols() == n);
  *inverses = Matrix<float>(n, std::min(n, kFactorBlock));
  Factorization factorization(h, inverses->view(), products);
  for (int64_t end = n; end > 0;) {
    const int64_t begin = (end - 1) / kPanel * kPanel;
    if (!factorization.FactorPanel(begin, end)) return false;
    factorization.SubtractPanel(begin, end);
    end = begin;
  }
  return true;
}

}  // namespace qeff
