// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/survivor_fit.h"

#include <algorithm>
#include <cstddef>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/add_scaled.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Times that the columns of a block are descended on, while a product's slopes
// last.
constexpr int kDescents = 2;
// Weights of a group that are looked at for a swap: those that cost least, and
// those that gain most.
constexpr int kCandidates = 8;
// Swaps in a group, a pass.
constexpr int kMostSwaps = 16;
constexpr int64_t kPieceRows = 2048;
constexpr int64_t kRowsOfTask = 8;

// Rows of the matrices, fitted together.
class Piece {
 public:
  Piece(MatrixView<const float> wanted, MatrixView<const float> hessian,
        int64_t swap_group, MatrixView<float> pruned, ThreadPool& pool,
        SgemmScratch& scratch)
      : wanted_(wanted),
        hessian_(hessian),
        pruned_(pruned),
        swap_group_(swap_group),
        block_(swap_group > 0 ? kFitBlock / swap_group * swap_group
                              : kFitBlock),
        pool_(pool),
        scratch_(scratch),
        left_(wanted.rows(), wanted.cols()),
        slope_(wanted.rows(), std::min(block_, wanted.cols())) {
    ForRows([&](int64_t r) {
      for (int64_t c = 0; c < wanted_.cols(); ++c) {
        left_.row(r)[c] = wanted_.row(r)[c] - pruned_.row(r)[c];
      }
    });
  }

  void Pass() {
    for (int64_t begin = 0; begin < wanted_.cols(); begin += block_) {
      const int64_t size = std::min(block_, wanted_.cols() - begin);
      SetSlopes(begin, size);
      ForRows([&](int64_t r) { Descend(r, begin, size); });
    }
  }

  void AddLosses(double* losses) {
    for (int64_t begin = 0; begin < wanted_.cols(); begin += block_) {
      const int64_t size = std::min(block_, wanted_.cols() - begin);
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
    Sgemm(args, pool_, scratch_);
  }

  // The row of a block that is at hand.
  struct Row {
    const float* wanted;
    float* pruned;
    float* left;
    float* slope;
    int64_t begin;  // column
    int64_t size;
  };

  const float* Curvature(const Row& row, int64_t j) const {
    return hessian_.row(row.begin + j) + row.begin;
  }

  // Changes element j of the row by `change`.
  void Move(const Row& row, int64_t j, float change) const {
    row.pruned[j] += change;
    row.left[j] -= change;
    AddScaled(row.size, -change, Curvature(row, j), row.slope);
  }

  void Descend(int64_t r, int64_t begin, int64_t size) {
    const Row row{wanted_.row(r) + begin,
                  pruned_.row(r) + begin,
                  left_.row(r) + begin,
                  slope_.row(r),
                  begin,
                  size};
    for (int turn = 0; turn < kDescents; ++turn) {
      for (int64_t j = 0; j < size; ++j) {
        if (row.pruned[j] == 0) continue;
        Move(row, j, row.slope[j] / Curvature(row, j)[j]);
      }
      if (turn > 0 || swap_group_ == 0) continue;
      for (int64_t first = 0; first < size; first += swap_group_) {
        const int64_t end = std::min(size, first + swap_group_);
        for (int swaps = 0; swaps < kMostSwaps; ++swaps) {
          if (!Swap(row, first, end)) break;
        }
      }
    }
  }

  // A few elements of a group, those with the least keys first.
  class Candidates {
   public:
    void Add(float key, int64_t j) {
      int at = count_ < kCandidates ? count_++ : kCandidates;
      if (at == kCandidates && !(key < keys_[kCandidates - 1])) return;
      if (at == kCandidates) --at;
      for (; at > 0 && key < keys_[at - 1]; --at) {
        keys_[at] = keys_[at - 1];
        columns_[at] = columns_[at - 1];
      }
      keys_[at] = key;
      columns_[at] = j;
    }
    const int64_t* begin() const { return columns_; }
    const int64_t* end() const { return columns_ + count_; }

   private:
    int count_ = 0;
    float keys_[kCandidates];
    int64_t columns_[kCandidates];
  };

  // Makes the best of the swaps between candidates of columns [first, end), if
  // it loses less.
  bool Swap(const Row& row, int64_t first, int64_t end) const {
    Candidates out, in;
    for (int64_t j = first; j < end; ++j) {
      const float h = Curvature(row, j)[j];
      if (row.pruned[j] != 0) {
        out.Add(row.pruned[j] * (row.pruned[j] * h + 2 * row.slope[j]), j);
      } else if (row.wanted[j] != 0) {
        in.Add(-row.slope[j] * row.slope[j] / h, j);
      }
    }
    float best = 0;
    int64_t leaves = -1, enters = -1;
    for (const int64_t j : out) {
      const float value = row.pruned[j];
      const float* curvature = Curvature(row, j);
      const float cost = value * (value * curvature[j] + 2 * row.slope[j]);
      for (const int64_t i : in) {
        const float slope = row.slope[i] + value * curvature[i];
        const float change = cost - slope * slope / Curvature(row, i)[i];
        // Not for what rounding may have made.
        if (change < best && change < -1e-4f * cost) {
          best = change;
          leaves = j;
          enters = i;
        }
      }
    }
    if (leaves < 0) return false;
    Move(row, leaves, -row.pruned[leaves]);
    Move(row, enters, row.slope[enters] / Curvature(row, enters)[enters]);
    return true;
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
  const int64_t swap_group_;
  const int64_t block_;
  ThreadPool& pool_;
  SgemmScratch& scratch_;
  Matrix<float> left_;   // W - Q
  Matrix<float> slope_;  // of a block
};

}  // namespace

std::vector<double> FitSurvivors(MatrixView<const float> wanted,
                                 MatrixView<const float> hessian,
                                 const SurvivorFitOptions& options,
                                 MatrixView<float> pruned, ThreadPool& pool) {
  QEFF_CHECK(wanted.rows() == pruned.rows() && wanted.cols() == pruned.cols() &&
             hessian.rows() == wanted.cols() &&
             hessian.cols() == wanted.cols() && options.swap_group >= 0 &&
             options.swap_group <= kFitBlock);
  std::vector<double> losses(static_cast<size_t>(wanted.rows()));
  SgemmScratch scratch;
  for (int64_t begin = 0; begin < wanted.rows(); begin += kPieceRows) {
    const int64_t rows = std::min(kPieceRows, wanted.rows() - begin);
    Piece piece(wanted.Rows(begin, rows), hessian, options.swap_group,
                pruned.Rows(begin, rows), pool, scratch);
    for (int pass = 0; pass < options.passes; ++pass) piece.Pass();
    piece.AddLosses(losses.data() + begin);
  }
  return losses;
}

}  // namespace qeff
