// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/sparse_gpt.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/add_scaled.h"
#include "qeff/quant/survivor_fit.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;

// Columns whose masks are chosen at once without groups, and about as many
// with.
constexpr int64_t kBlock = 128;

// The pass over the columns.
class Sweep {
 public:
  Sweep(const SparsityPattern& pattern, const FactoredHessian& hessian,
        MatrixView<const float> weights, ThreadPool& pool)
      : pattern_(pattern),
        order_(hessian.order),
        factor_(hessian.factor.view()),
        pool_(pool),
        // Groups are not cut.
        block_(pattern.grouped() ? kBlock / pattern.group * pattern.group
                                 : kBlock),
        weights_(weights.rows(), weights.cols()),
        left_(weights.rows(), weights.cols()),
        carried_(weights.rows(), std::min(block_, weights.cols())),
        removed_(static_cast<size_t>(weights.rows() * carried_.cols())) {
    ForRows([&](int64_t r) {
      for (size_t i = 0; i < order_.size(); ++i) {
        weights_.row(r)[i] = weights.row(r)[order_[i]];
      }
    });
  }

  // Writes what is left to `pruned`.
  void Go(MatrixView<float> pruned) {
    int64_t begin = 0;
    while (begin < weights_.cols()) {
      const int64_t size = BlockSize(begin);
      Carry(begin, size);
      if (!pattern_.grouped()) ChooseOfBlock(begin, size);
      ForRows([&](int64_t r) { PassRow(r, begin, size); });
      begin += size;
    }
    ForRows([&](int64_t r) {
      for (size_t i = 0; i < order_.size(); ++i) {
        pruned.row(r)[order_[i]] = weights_.row(r)[i] - left_.row(r)[i];
      }
    });
  }

 private:
  // Columns of the group that begins at `position` of the order: the last of a
  // row may be shorter, wherever it comes.
  int64_t GroupSize(int64_t position) const {
    const int64_t first = order_[static_cast<size_t>(position)];
    return std::min<int64_t>(pattern_.group, weights_.cols() - first);
  }

  int64_t BlockSize(int64_t begin) const {
    if (!pattern_.grouped()) return std::min(block_, weights_.cols() - begin);
    int64_t size = 0;
    while (begin + size < weights_.cols()) {
      const int64_t group = GroupSize(begin + size);
      if (size + group > block_) break;
      size += group;
    }
    return size;
  }

  // carried[r, j] = sum over the columns i of earlier blocks of d_i R_ij.
  void Carry(int64_t begin, int64_t size) {
    SgemmArgs args;
    args.a = left_.view().Cols(0, begin);
    args.b = factor_.Rows(0, begin).Cols(begin, size);
    args.c = carried_.view().Cols(0, size);
    Sgemm(args, pool_, scratch_);
  }

  // What removing column `begin` + j would cost if all columns of [first, j)
  // were kept, from `carried` of those before; negative for what is gone
  // already. `work` is [size].
  void Score(int64_t r, int64_t begin, int64_t first, int64_t size, float* work,
             float* scores) const {
    std::copy_n(carried_.row(r) + first, size, work);
    for (int64_t j = 0; j < size; ++j) {
      const int64_t column = begin + first + j;
      const float* factor = factor_.row(column) + begin + first;
      const float w = weights_.row(r)[column];
      const float cost = w * factor[j] + work[j];
      scores[j] = w == 0 ? -1.0f : cost * cost;
      AddScaled(size - j - 1, -work[j] / factor[j], factor + j + 1,
                work + j + 1);
    }
  }

  // The lowest scores of all rows of a block.
  void ChooseOfBlock(int64_t begin, int64_t size) {
    Matrix<float> scores(weights_.rows(), size);
    ForRows([&](int64_t r) {
      float work[kBlock];
      Score(r, begin, 0, size, work, scores.row(r));
    });
    const int64_t count = pattern_.Removed(weights_.rows() * size);
    std::vector<std::pair<float, int64_t>> scored;
    scored.reserve(static_cast<size_t>(weights_.rows() * size));
    for (int64_t r = 0; r < weights_.rows(); ++r) {
      for (int64_t j = 0; j < size; ++j) {
        scored.emplace_back(scores.row(r)[j], r * carried_.cols() + j);
      }
    }
    if (count < static_cast<int64_t>(scored.size())) {
      std::nth_element(scored.begin(), scored.begin() + count, scored.end());
    }
    std::fill(removed_.begin(), removed_.end(), uint8_t{0});
    for (int64_t i = 0; i < count; ++i) {
      removed_[static_cast<size_t>(scored[static_cast<size_t>(i)].second)] = 1;
    }
  }

  // The lowest scores of the group at `begin` + `first`.
  void ChooseOfGroup(int64_t r, int64_t begin, int64_t first, int64_t size,
                     uint8_t* removed) const {
    float work[SparsityPattern::kMaxGroup], scores[SparsityPattern::kMaxGroup];
    Score(r, begin, first, size, work, scores);
    std::fill_n(removed, size, uint8_t{0});
    for (int64_t left = pattern_.Removed(size); left > 0; --left) {
      int64_t lowest = -1;
      for (int64_t j = 0; j < size; ++j) {
        if (removed[j] != 0) continue;
        if (lowest < 0 || scores[j] < scores[lowest]) lowest = j;
      }
      removed[lowest] = 1;
    }
  }

  void PassRow(int64_t r, int64_t begin, int64_t size) {
    float* carried = carried_.row(r);
    float* left = left_.row(r) + begin;
    const float* weights = weights_.row(r) + begin;
    uint8_t* removed = removed_.data() + r * carried_.cols();
    int64_t group_end = 0;
    for (int64_t j = 0; j < size; ++j) {
      if (pattern_.grouped() && j == group_end) {
        const int64_t group = GroupSize(begin + j);
        ChooseOfGroup(r, begin, j, group, removed + j);
        group_end += group;
      }
      const float* factor = factor_.row(begin + j) + begin;
      // What is gone stays gone.
      const bool gone = removed[j] != 0 || weights[j] == 0;
      const float d = gone ? weights[j] : -carried[j] / factor[j];
      left[j] = d;
      AddScaled(size - j - 1, d, factor + j + 1, carried + j + 1);
    }
  }

  template <class Body>
  void ForRows(const Body& body) {
    pool_.ParallelFor(weights_.rows(), kRowsOfTask,
                      [&](int64_t r, int64_t end, int /*thread*/) {
                        for (; r < end; ++r) body(r);
                      });
  }

  const SparsityPattern& pattern_;
  const std::vector<int64_t>& order_;
  const MatrixView<const float> factor_;
  ThreadPool& pool_;
  SgemmScratch scratch_;
  const int64_t block_;
  Matrix<float> weights_;         // columns in the order
  Matrix<float> left_;            // d, in that order
  Matrix<float> carried_;         // of a block
  std::vector<uint8_t> removed_;  // of a block, rows as carried_
};

}  // namespace

GptqOptions SparseGptFactorOptions(const SparsityPattern& pattern,
                                   double damping) {
  GptqOptions options;
  options.damping = damping;
  options.order_group = std::max(1, pattern.group);
  return options;
}

std::vector<double> PruneSparseGpt(const SparsityPattern& pattern,
                                   const FactoredHessian& hessian,
                                   int fit_passes, MatrixView<float> weights,
                                   ThreadPool& pool) {
  QEFF_CHECK(hessian.usable() && hessian.factor.rows() == weights.cols());
  SurvivorFitOptions fit;
  fit.passes = fit_passes;
  fit.swap_group = pattern.grouped() ? pattern.group : kFitBlock;
  Matrix<float> wanted(weights.rows(), weights.cols());
  for (int64_t r = 0; r < weights.rows(); ++r) {
    std::copy_n(weights.row(r), weights.cols(), wanted.row(r));
  }
  Sweep(pattern, hessian, wanted.view(), pool).Go(weights);
  return FitSurvivors(wanted.view(), hessian.damped.view(), fit, weights, pool);
}

}  // namespace qeff
