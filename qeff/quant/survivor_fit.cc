// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/survivor_fit.h"

#include <algorithm>
#include <cstddef>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/add_scaled.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Columns that are descended on one by one, with the slopes of the others as
// they were before.
constexpr int64_t kBlock = 128;
// Times that they are, while a product's slopes last.
constexpr int kDescents = 2;
constexpr int64_t kPieceRows = 512;
constexpr int64_t kRowsOfTask = 8;

// Rows of the matrices, fitted together.
class Piece {
 public:
  Piece(MatrixView<const float> wanted, MatrixView<const float> hessian,
        MatrixView<float> pruned, ThreadPool& pool)
      : wanted_(wanted),
        hessian_(hessian),
        pruned_(pruned),
        pool_(pool),
        left_(wanted.rows(), wanted.cols()),
        slope_(wanted.rows(), std::min(kBlock, wanted.cols())) {
    ForRows([&](int64_t r) {
      for (int64_t c = 0; c < wanted_.cols(); ++c) {
        left_.row(r)[c] = wanted_.row(r)[c] - pruned_.row(r)[c];
      }
    });
  }

  void Pass() {
    for (int64_t begin = 0; begin < wanted_.cols(); begin += kBlock) {
      const int64_t size = std::min(kBlock, wanted_.cols() - begin);
      SetSlopes(begin, size);
      ForRows([&](int64_t r) { Descend(r, begin, size); });
    }
  }

  void AddLosses(double* losses) {
    for (int64_t begin = 0; begin < wanted_.cols(); begin += kBlock) {
      const int64_t size = std::min(kBlock, wanted_.cols() - begin);
      SetSlopes(begin, size);
      ForRows([&](int64_t r) {
        for (int64_t j = 0; j < size; ++j) {
          losses[r] += static_cast<double>(left_.row(r)[begin + j]) *
                       static_cast<double>(slope_.row(r)[j]);
        }
      });
    }
  }

 private:
  // slope = left H, of these columns.
  void SetSlopes(int64_t begin, int64_t size) {
    SgemmArgs args;
    args.a = left_.view();
    args.b = hessian_.Cols(begin, size);
    args.c = slope_.view().Cols(0, size);
    Sgemm(args, pool_);
  }

  void Descend(int64_t r, int64_t begin, int64_t size) {
    float* slope = slope_.row(r);
    float* left = left_.row(r) + begin;
    float* pruned = pruned_.row(r) + begin;
    for (int turn = 0; turn < kDescents; ++turn) {
      for (int64_t j = 0; j < size; ++j) {
        if (pruned[j] == 0) continue;
        const float* curvature = hessian_.row(begin + j) + begin;
        const float change = slope[j] / curvature[j];
        pruned[j] += change;
        left[j] -= change;
        AddScaled(size, -change, curvature, slope);
      }
    }
  }

  template <class Body>
  void ForRows(const Body& body) {
    pool_.ParallelFor(wanted_.rows(), kRowsOfTask,
                      [&](int64_t r, int64_t end, int /*thread*/) {
                        for (; r < end; ++r) body(r);
                      });
  }

  const MatrixView<const float> wanted_;
  const MatrixView<const float> hessian_;
  const MatrixView<float> pruned_;
  ThreadPool& pool_;
  Matrix<float> left_;   // W - Q
  Matrix<float> slope_;  // of a block
};

}  // namespace

std::vector<double> FitSurvivors(MatrixView<const float> wanted,
                                 MatrixView<const float> hessian, int passes,
                                 MatrixView<float> pruned, ThreadPool& pool) {
  QEFF_CHECK(wanted.rows() == pruned.rows() && wanted.cols() == pruned.cols() &&
             hessian.rows() == wanted.cols() &&
             hessian.cols() == wanted.cols());
  std::vector<double> losses(static_cast<size_t>(wanted.rows()));
  for (int64_t begin = 0; begin < wanted.rows(); begin += kPieceRows) {
    const int64_t rows = std::min(kPieceRows, wanted.rows() - begin);
    Piece piece(wanted.Rows(begin, rows), hessian, pruned.Rows(begin, rows),
                pool);
    for (int pass = 0; pass < passes; ++pass) piece.Pass();
    piece.AddLosses(losses.data() + begin);
  }
  return losses;
}

}  // namespace qeff
