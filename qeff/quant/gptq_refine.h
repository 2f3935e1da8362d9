// SPDX-License-Identifier: Apache-2.0
//
// Improves what GPTQ's pass over the columns has found. That pass chooses each
// code once, with scales that were fixed before it. Here, in turns, the scales
// become those that lose least with the codes, by least squares over all groups
// of a row and the whole Hessian, and each code becomes the best one while all
// others stay (coordinate descent). Neither can lose more than before, but for
// the rounding of scales to what they are stored in.

#ifndef QEFF_QUANT_GPTQ_REFINE_H_
#define QEFF_QUANT_GPTQ_REFINE_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/add_scaled.h"
#include "qeff/quant/timed_products.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Solves a x = b for x, in place of b; a [n, n] is symmetric and not negative,
// b [n]. Directions that a says nothing about stay 0. False, and b is left
// undefined, where the result is not finite.
bool SolveSymmetric(MatrixView<const double> a, absl::Span<double> b);

// Borrows its arguments. Not thread-safe.
//
// Groups is a class as gptq_sweep.h wants it, with
//   void CopyRow(const Groups& from, int64_t row);
//   static constexpr bool kFreeScales;  // each group has one of its own
// and if it has, Params with a member `scale`, and
//   float Unscaled(uint8_t code, const Params&) const;  // Value / scale
//   void SetScale(int64_t row, int64_t group, double scale);  // or keeps it
class GptqRefiner {
 public:
  // Turns, and as many passes over the columns in each: three gain what there
  // is to gain with codes of 2 bits, and little over two from 4 bits on.
  static int TurnsFor(int bits) { return bits < 4 ? 3 : 2; }
  // Rows whose products are computed at once.
  static constexpr int64_t kPieceRows = 512;
  static constexpr int64_t kRowsOfTask = 4;

  // `weights` [rows, cols]; `hessian` [cols, cols], damped, both triangles, its
  // diagonal positive; `order`: of the columns in a pass.
  GptqRefiner(MatrixView<const float> weights, MatrixView<const float> hessian,
              const std::vector<int64_t>& order, int turns, ThreadPool& pool)
      : weights_(weights),
        hessian_(hessian),
        order_(order),
        turns_(turns),
        pool_(pool),
        products_(pool),
        curvature_(static_cast<size_t>(hessian.rows())),
        rows_(std::min(kPieceRows, weights.rows())),
        left_(rows_, weights.cols()),
        slope_(rows_, weights.cols()) {
    for (int64_t c = 0; c < hessian.rows(); ++c) {
      curvature_[static_cast<size_t>(c)] = hessian.row(c)[c];
    }
  }

  const TimedWork& products() const { return products_.work(); }

  // Products of its rows with the whole Hessian, for groups with scales of
  // their own: slopes, and half of one where scales are fitted.
  static double ProductsFor(int bits) { return 1.5 * TurnsFor(bits) - 0.5; }

  // Refines rows of `groups` and `codes` [rows, cols] where they lose less
  // after than before, and sets `losses` and `saturated` [rows] of these.
  template <class Groups>
  void Refine(Groups* groups, std::vector<uint8_t>* codes,
              std::vector<double>* losses, std::vector<int64_t>* saturated) {
    group_.resize(static_cast<size_t>(weights_.cols()));
    for (int64_t c = 0; c < weights_.cols(); ++c) {
      group_[static_cast<size_t>(c)] =
          static_cast<int32_t>(c / groups->group_elems());
    }
    Groups tried = *groups;
    for (int64_t row = 0; row < weights_.rows(); row += kPieceRows) {
      rows_ = std::min(kPieceRows, weights_.rows() - row);
      RefinePiece(row, groups, codes, losses, saturated, &tried);
    }
  }

 private:
  // Rows [begin, begin + rows_). Of `tried`, the others are not looked at.
  template <class Groups>
  void RefinePiece(int64_t begin, Groups* groups, std::vector<uint8_t>* codes,
                   std::vector<double>* losses, std::vector<int64_t>* saturated,
                   Groups* tried) {
    const int64_t cols = weights_.cols();
    std::vector<uint8_t> tried_codes(codes->begin() + begin * cols,
                                     codes->begin() + (begin + rows_) * cols);
    for (int turn = 0; turn < (Groups::kFreeScales ? turns_ : 1); ++turn) {
      if constexpr (Groups::kFreeScales) {
        if (turn > 0) FitScales(begin, tried_codes, tried);
      }
      SetSlopes(begin, tried_codes, *tried);
      ForRows([&](int64_t r) {
        uint8_t* row_codes = tried_codes.data() + r * cols;
        const int64_t beyond = DescendRow(*tried, begin + r, r, row_codes);
        const double loss = DotInDouble(cols, left_.row(r), slope_.row(r));
        double& best = (*losses)[static_cast<size_t>(begin + r)];
        if (!(loss < best)) return;
        best = loss;
        (*saturated)[static_cast<size_t>(begin + r)] = beyond;
        groups->CopyRow(*tried, begin + r);
        std::copy_n(row_codes, cols, codes->begin() + (begin + r) * cols);
      });
    }
  }

  // left_ = W - Q, slope_ = left_ H.
  template <class Groups>
  void SetSlopes(int64_t begin, const std::vector<uint8_t>& codes,
                 const Groups& groups) {
    const int64_t cols = weights_.cols();
    ForRows([&](int64_t r) {
      const auto* params = groups.Row(begin + r);
      for (int64_t c = 0; c < cols; ++c) {
        left_.row(r)[c] = weights_.row(begin + r)[c] -
                          groups.Value(codes[static_cast<size_t>(r * cols + c)],
                                       params[group_[static_cast<size_t>(c)]]);
      }
    });
    SgemmArgs args;
    args.a = left_.view().Rows(0, rows_);
    args.b = hessian_;
    args.c = slope_.view().Rows(0, rows_);
    products_.Run(args);
  }

  // Gives each code its best, and returns how many want to be beyond the
  // outermost.
  template <class Groups>
  int64_t DescendRow(const Groups& groups, int64_t row, int64_t r,
                     uint8_t* codes) {
    const auto* params = groups.Row(row);
    float* left = left_.row(r);
    float* slope = slope_.row(r);
    const float* weights = weights_.row(row);
    int64_t saturated = 0;
    for (int pass = 0; pass < turns_; ++pass) {
      int64_t changed = 0;
      saturated = 0;
      for (const int64_t c : order_) {
        const auto& group = params[group_[static_cast<size_t>(c)]];
        const float value = weights[c] - left[c];
        // What was removed stays so.
        const float wanted =
            weights[c] == 0
                ? 0
                : value + slope[c] / curvature_[static_cast<size_t>(c)];
        const uint8_t code = groups.Code(wanted, group);
        saturated += groups.Saturates(wanted, code, group);
        if (code == codes[c]) continue;
        const float change =
            groups.Value(code, group) - groups.Value(codes[c], group);
        codes[c] = code;
        left[c] = weights[c] - groups.Value(code, group);
        AddScaled(weights_.cols(), -change, hessian_.row(c), slope);
        ++changed;
      }
      if (changed == 0) break;
    }
    return saturated;
  }

  // Least squares for the scales of each row, from the slopes of the last turn.
  template <class Groups>
  void FitScales(int64_t begin, const std::vector<uint8_t>& codes,
                 Groups* groups) {
    const int64_t cols = weights_.cols();
    const int64_t size = groups->group_elems();
    const int64_t count = (cols + size - 1) / size;
    if (unscaled_.empty()) {
      unscaled_ = Matrix<float>(left_.rows(), cols);
      product_ = Matrix<float>(left_.rows(), cols);
    }
    ForRows([&](int64_t r) {
      const auto* params = groups->Row(begin + r);
      for (int64_t c = 0; c < cols; ++c) {
        const size_t i = static_cast<size_t>(r * cols + c);
        unscaled_.row(r)[c] =
            groups->Unscaled(codes[i], params[group_[static_cast<size_t>(c)]]);
      }
    });
    Matrix<double> gram(rows_ * count, count);
    SetGram(size, &gram);
    ForRows([&](int64_t r) {
      std::vector<double> change(static_cast<size_t>(count));
      for (int64_t g = 0; g < count; ++g) {
        change[static_cast<size_t>(g)] =
            DotOfGroup(unscaled_.row(r), slope_.row(r), g * size, size);
      }
      if (!SolveSymmetric(gram.view().Rows(r * count, count),
                          absl::MakeSpan(change))) {
        return;
      }
      const auto* params = groups->Row(begin + r);
      for (int64_t g = 0; g < count; ++g) {
        groups->SetScale(begin + r, g,
                         static_cast<double>(params[g].scale) +
                             change[static_cast<size_t>(g)]);
      }
    });
  }

  // gram[r * groups + g, h] = u_g H u_h^T, u_g being what group g has of row r.
  // It is symmetric.
  void SetGram(int64_t size, Matrix<double>* gram) {
    const int64_t count = gram->cols();
    for (int64_t h = 0; h < count; ++h) {
      const int64_t rest = weights_.cols() - h * size;
      const int64_t width = std::min(size, rest);
      SgemmArgs args;
      args.a = unscaled_.view().Rows(0, rows_).Cols(h * size, width);
      args.b = hessian_.Rows(h * size, width).Cols(h * size, rest);
      args.c = product_.view().Rows(0, rows_).Cols(h * size, rest);
      products_.Run(args);
      ForRows([&](int64_t r) {
        for (int64_t g = h; g < count; ++g) {
          const double value =
              DotOfGroup(unscaled_.row(r), product_.row(r), g * size, size);
          gram->row(r * count + g)[h] = value;
          gram->row(r * count + h)[g] = value;
        }
      });
    }
  }

  // body(r) for the rows of the piece.
  template <class Body>
  void ForRows(const Body& body) {
    pool_.ParallelFor(rows_, kRowsOfTask,
                      [&](int64_t r, int64_t end, int /*thread*/) {
                        for (; r < end; ++r) body(r);
                      });
  }

  // Of elements [begin, begin + size), as far as a row reaches.
  double DotOfGroup(const float* a, const float* b, int64_t begin,
                    int64_t size) const {
    const int64_t count = std::min(size, weights_.cols() - begin);
    return DotInDouble(count, a + begin, b + begin);
  }

  const MatrixView<const float> weights_;
  const MatrixView<const float> hessian_;
  const std::vector<int64_t>& order_;
  const int turns_;
  ThreadPool& pool_;
  TimedProducts products_;
  std::vector<float> curvature_;  // the Hessian's diagonal
  std::vector<int32_t> group_;    // of each column
  int64_t rows_;                  // of the piece at hand
  Matrix<float> left_;            // W - Q
  Matrix<float> slope_;           // and its product with the Hessian
  Matrix<float> unscaled_;        // what codes stand for, without scales
  Matrix<float> product_;         // of a group of them with the Hessian
};

}  // namespace qeff

#endif  // QEFF_QUANT_GPTQ_REFINE_H_
