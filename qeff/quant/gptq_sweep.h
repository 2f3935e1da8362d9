// SPDX-License-Identifier: Apache-2.0
//
// GPTQ's pass over the columns of a layer, for any groups whose parameters are
// fixed: integers (gptq.h) and blocks of ggml (ggml_gptq.h).
//
// Groups is a class with
//   using Params;                          // of a group
//   int64_t group_elems() const;           // of every group but the last
//   const Params* Row(int64_t row) const;  // of the groups of a row
//   uint8_t Code(float wanted, const Params&) const;  // of the nearest value
//   float Value(uint8_t code, const Params&) const;
//   bool Saturates(float wanted, uint8_t code, const Params&) const;

#ifndef QEFF_QUANT_GPTQ_SWEEP_H_
#define QEFF_QUANT_GPTQ_SWEEP_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/add_scaled.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Codes of all rows, and what they lose.
struct GptqSweep {
  std::vector<uint8_t> codes;      // [rows, cols], columns in the order
  std::vector<double> losses;      // of a row
  std::vector<int64_t> saturated;  // of a row
};

// What a layer, or some rows of it, loses in the end.
struct GptqLosses {
  // trace((W - Q) H (W - Q)^T) with the damped Hessian, of the codes and of
  // rounding to nearest, for integers with ComputeGroupParams. Never greater
  // than the latter, row by row.
  double loss = 0;
  double rounding_loss = 0;
  int64_t saturated = 0;     // weights beyond the outermost code by half a step
  int64_t rounded_rows = 0;  // that are those of rounding to nearest
};

// A layer whose Hessian is factored (FactoredHessian, usable): `order` and
// `factor`, which it borrows. Not thread-safe.
class GptqLayer {
 public:
  // Columns whose errors are propagated one by one; those of earlier blocks
  // come as one product.
  static constexpr int64_t kBlock = 128;
  static constexpr int64_t kRowsOfTask = 16;

  // Copies the weights.
  GptqLayer(MatrixView<const float> weights, const std::vector<int64_t>& order,
            MatrixView<const float> factor, ThreadPool& pool)
      : weights_(weights.rows(), weights.cols()),
        order_(order),
        factor_(factor),
        pool_(pool),
        left_(weights.rows(), weights.cols()),
        carried_(weights.rows(), std::min(kBlock, weights.cols())),
        group_(order.size()),
        inverse_(order.size()) {
    // A row at a time, or each weight would be a cache miss.
    pool_.ParallelFor(weights.rows(), kRowsOfTask,
                      [&](int64_t row, int64_t end, int /*thread*/) {
                        for (; row < end; ++row) {
                          float* ordered = weights_.row(row);
                          for (size_t i = 0; i < order_.size(); ++i) {
                            ordered[i] = weights.row(row)[order_[i]];
                          }
                        }
                      });
  }

  // Losses are not finite when a sum overflowed. `propagate`: GPTQ, else
  // rounding to nearest. Weights that are exactly 0 are always rounded: they
  // were removed, and stay so where the groups have a 0.
  template <class Groups>
  GptqSweep Quantize(const Groups& groups, bool propagate) {
    const size_t rows = static_cast<size_t>(weights_.rows());
    GptqSweep sweep;
    sweep.codes.resize(rows * static_cast<size_t>(weights_.cols()));
    sweep.losses.resize(rows);
    sweep.saturated.resize(rows);
    // Dividing takes longer than the rest of a weight.
    for (size_t i = 0; i < group_.size(); ++i) {
      group_[i] = static_cast<int32_t>(order_[i] / groups.group_elems());
      const int64_t n = static_cast<int64_t>(i);
      inverse_[i] = 1.0f / factor_.row(n)[n];
    }
    for (int64_t begin = 0; begin < weights_.cols(); begin += kBlock) {
      const int64_t size = std::min(kBlock, weights_.cols() - begin);
      Carry(begin, size);
      pool_.ParallelFor(weights_.rows(), kRowsOfTask,
                        [&](int64_t row, int64_t end, int /*thread*/) {
                          for (; row < end; ++row) {
                            QuantizeRow(groups, row, begin, size, propagate,
                                        &sweep);
                          }
                        });
    }
    return sweep;
  }

 private:
  // carried[r, j] = sum over the columns i of earlier blocks of d_i R_ij.
  void Carry(int64_t begin, int64_t size) {
    SgemmArgs args;
    args.a = left_.view().Cols(0, begin);
    args.b = factor_.Rows(0, begin).Cols(begin, size);
    args.c = carried_.view().Cols(0, size);
    Sgemm(args, pool_);
  }

  template <class Groups>
  void QuantizeRow(const Groups& groups, int64_t row, int64_t begin,
                   int64_t size, bool propagate, GptqSweep* sweep) {
    float* carried = carried_.row(row);
    float* left = left_.row(row);
    const float* weights = weights_.row(row) + begin;
    uint8_t* codes = sweep->codes.data() + row * weights_.cols() + begin;
    const typename Groups::Params* row_groups = groups.Row(row);
    double loss = 0;
    int64_t saturated = 0;
    for (int64_t j = 0; j < size; ++j) {
      const size_t position = static_cast<size_t>(begin + j);
      const float* factor = factor_.row(begin + j) + begin;
      const float w = weights[j];
      const typename Groups::Params& params = row_groups[group_[position]];
      const float wanted =
          propagate && w != 0 ? w + carried[j] * inverse_[position] : w;
      const uint8_t code = groups.Code(wanted, params);
      const float d = w - groups.Value(code, params);
      codes[j] = code;
      saturated += groups.Saturates(wanted, code, params);
      left[begin + j] = d;
      const double error =
          static_cast<double>(carried[j]) + static_cast<double>(d) * factor[j];
      loss += error * error;
      AddScaled(size - j - 1, d, factor + j + 1, carried + j + 1);
    }
    sweep->losses[static_cast<size_t>(row)] += loss;
    sweep->saturated[static_cast<size_t>(row)] += saturated;
  }

  Matrix<float> weights_;  // columns in the order
  const std::vector<int64_t>& order_;
  const MatrixView<const float> factor_;
  ThreadPool& pool_;
  Matrix<float> left_;          // d, in that order
  Matrix<float> carried_;       // of a block
  std::vector<int32_t> group_;  // of the column that comes i-th
  std::vector<float> inverse_;  // 1 / R_ii
};

// `codes` [rows, cols] with their columns where they belong.
std::vector<uint8_t> CodesInPlace(const std::vector<uint8_t>& codes,
                                  const std::vector<int64_t>& order,
                                  ThreadPool& pool);

// Takes row `row` of `sweep`, with `groups`, when it loses less than `best`,
// whose rows have the groups `chosen`.
template <class Groups>
void TakeRowIfBetter(const GptqSweep& sweep, const Groups& groups, int64_t row,
                     int64_t cols, GptqSweep* best, Groups* chosen) {
  const size_t r = static_cast<size_t>(row);
  if (!(sweep.losses[r] < best->losses[r])) return;
  best->losses[r] = sweep.losses[r];
  best->saturated[r] = sweep.saturated[r];
  std::copy_n(sweep.codes.begin() + row * cols, cols,
              best->codes.begin() + row * cols);
  chosen->CopyRow(groups, row);
}

}  // namespace qeff

#endif  // QEFF_QUANT_GPTQ_SWEEP_H_
