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
  static constexpr int64_t kPieceRows = 256;
  static constexpr int64_t kRowsOfTask = 4;

  // `weights` [rows, cols]; `hessian` [cols, cols], damped, both triangles, its
  // diagonal positive; `order`: of the columns in a pass.
  GptqRefiner(MatrixView<const float> weights, MatrixView<const float> hessian,
              const std::vector<int64_t>& order, int turns, ThreadPool& pool)
      : weights_(weights),
        hessian_(hessian),
        order_(order),
        turns_(turns),
        pool_(pool) {}

  // Refines rows of `groups` and `codes` [rows, cols] where they lose less
  // after than before, and sets `losses` and `saturated` [rows] of these.
  template <class Groups>
  void Refine(Groups* groups, std::vector<uint8_t>* codes,
              std::vector<double>* losses, std::vector<int64_t>* saturated) {
    for (int64_t row = 0; row < weights_.rows(); row += kPieceRows) {
      RefinePiece(row, std::min(kPieceRows, weights_.rows() - row), groups,
                  codes, losses, saturated);
    }
  }

 private:
  template <class Groups>
  void RefinePiece(int64_t begin, int64_t rows, Groups* groups,
                   std::vector<uint8_t>* codes, std::vector<double>* losses,
                   std::vector<int64_t>* saturated) {
    const int64_t cols = weights_.cols();
    left_ = Matrix<float>(rows, cols);
    slope_ = Matrix<float>(rows, cols);
    Groups tried = *groups;  // other pieces are not looked at
    std::vector<int64_t> beyond(static_cast<size_t>(rows));
    std::vector<uint8_t> tried_codes(codes->begin() + begin * cols,
                                     codes->begin() + (begin + rows) * cols);
    for (int turn = 0; turn < (Groups::kFreeScales ? turns_ : 1); ++turn) {
      if constexpr (Groups::kFreeScales) {
        if (turn > 0) FitScales(begin, tried_codes, &tried);
      }
      SetSlopes(begin, tried_codes, tried);
      ForRows([&](int64_t r) {
        beyond[static_cast<size_t>(r)] =
            DescendRow(tried, begin + r, r, tried_codes.data() + r * cols);
      });
      for (int64_t r = 0; r < rows; ++r) {
        const double loss = Dot(left_.row(r), slope_.row(r), 0, cols);
        double& best = (*losses)[static_cast<size_t>(begin + r)];
        if (!(loss < best)) continue;
        best = loss;
        (*saturated)[static_cast<size_t>(begin + r)] =
            beyond[static_cast<size_t>(r)];
        groups->CopyRow(tried, begin + r);
        std::copy_n(tried_codes.begin() + r * cols, cols,
                    codes->begin() + (begin + r) * cols);
      }
    }
  }

  // left_ = W - Q, slope_ = left_ H.
  template <class Groups>
  void SetSlopes(int64_t begin, const std::vector<uint8_t>& codes,
                 const Groups& groups) {
    const int64_t cols = weights_.cols();
    for (int64_t r = 0; r < left_.rows(); ++r) {
      const auto* params = groups.Row(begin + r);
      for (int64_t c = 0; c < cols; ++c) {
        left_.row(r)[c] = weights_.row(begin + r)[c] -
                          groups.Value(codes[static_cast<size_t>(r * cols + c)],
                                       params[c / groups.group_elems()]);
      }
    }
    SgemmArgs args;
    args.a = left_.view();
    args.b = hessian_;
    args.c = slope_.view();
    Sgemm(args, pool_);
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
        const auto& group = params[c / groups.group_elems()];
        const float value = weights[c] - left[c];
        // What was removed stays so.
        const float wanted =
            weights[c] == 0 ? 0 : value + slope[c] / hessian_.row(c)[c];
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
    Matrix<float> unscaled(left_.rows(), cols);
    for (int64_t r = 0; r < unscaled.rows(); ++r) {
      const auto* params = groups->Row(begin + r);
      for (int64_t c = 0; c < cols; ++c) {
        unscaled.row(r)[c] = groups->Unscaled(
            codes[static_cast<size_t>(r * cols + c)], params[c / size]);
      }
    }
    Matrix<double> gram(unscaled.rows() * count, count);
    SetGram(unscaled, size, &gram);
    ForRows([&](int64_t r) {
      std::vector<double> change(static_cast<size_t>(count));
      for (int64_t g = 0; g < count; ++g) {
        change[static_cast<size_t>(g)] =
            Dot(unscaled.row(r), slope_.row(r), g * size, size);
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
  void SetGram(const Matrix<float>& unscaled, int64_t size,
               Matrix<double>* gram) {
    const int64_t count = gram->cols();
    Matrix<float> product(unscaled.rows(), unscaled.cols());
    for (int64_t h = 0; h < count; ++h) {
      const int64_t width = std::min(size, unscaled.cols() - h * size);
      SgemmArgs args;
      args.a = unscaled.view().Cols(h * size, width);
      args.b = hessian_.Rows(h * size, width);
      args.c = product.view();
      Sgemm(args, pool_);
      ForRows([&](int64_t r) {
        for (int64_t g = 0; g < count; ++g) {
          gram->row(r * count + g)[h] =
              Dot(unscaled.row(r), product.row(r), g * size, size);
        }
      });
    }
  }

  // body(r) for the rows of the piece.
  template <class Body>
  void ForRows(const Body& body) {
    pool_.ParallelFor(left_.rows(), kRowsOfTask,
                      [&](int64_t r, int64_t end, int /*thread*/) {
                        for (; r < end; ++r) body(r);
                      });
  }

  // Of elements [begin, begin + size), as far as a row reaches.
  double Dot(const float* a, const float* b, int64_t begin,
             int64_t size) const {
    const int64_t end = std::min(begin + size, weights_.cols());
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    return sum;
  }

  const MatrixView<const float> weights_;
  const MatrixView<const float> hessian_;
  const std::vector<int64_t>& order_;
  const int turns_;
  ThreadPool& pool_;
  Matrix<float> left_;   // of a piece: W - Q
  Matrix<float> slope_;  // and its product with the Hessian
};

}  // namespace qeff

#endif  // QEFF_QUANT_GPTQ_REFINE_H_
