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
#include "qeff/quant/timed_products.h"
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
  TimedWork products;        // that finding the codes took
};

// A layer whose Hessian is factored (FactoredHessian, usable): `order` and
// `factor`, which it borrows. Not thread-safe.
class GptqLayer {
 public:
  // Columns whose errors are propagated one by one; those of earlier blocks
  // come as products: of all before these kCarried columns at once, which takes
  // less packing than a block at a time, and then of blocks among them.
  static constexpr int64_t kBlock = 128;
  static constexpr int64_t kCarried = 4 * kBlock;
  static constexpr int64_t kRowsOfTask = 16;
  // Rows that take turns, column by column: one alone waits for each code.
  static constexpr int64_t kLockstep = 4;

  // Copies the weights.
  GptqLayer(MatrixView<const float> weights, const std::vector<int64_t>& order,
            MatrixView<const float> factor, ThreadPool& pool)
      : weights_(weights.rows(), weights.cols()),
        order_(order),
        factor_(factor),
        pool_(pool),
        products_(pool),
        left_(weights.rows(), weights.cols()),
        carried_(weights.rows(), std::min(kCarried, weights.cols())),
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

  const TimedWork& products() const { return products_.work(); }

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
    for (int64_t first = 0; first < weights_.cols(); first += kCarried) {
      const int64_t last = std::min(first + kCarried, weights_.cols());
      Carry(0, first, first, first, last - first, SgemmUpdate::kSet);
      for (int64_t begin = first; begin < last; begin += kBlock) {
        const Block block = {first, begin, std::min(kBlock, last - begin)};
        Carry(first, begin, first, begin, block.size, SgemmUpdate::kAdd);
        propagate ? Propagate(groups, block, &sweep)
                  : Round(groups, block, &sweep);
      }
    }
    return sweep;
  }

 private:
  struct Block {
    int64_t carried_begin;  // the column of carried_'s first
    int64_t begin, size;    // its columns
  };

  // carried[r, j] = or += sum over the columns i in [first, last) of d_i R_ij,
  // for the columns [begin, begin + size).
  void Carry(int64_t first, int64_t last, int64_t carried_begin, int64_t begin,
             int64_t size, SgemmUpdate update) {
    if (first == last && update == SgemmUpdate::kAdd) return;
    SgemmArgs args;
    args.a = left_.view().Cols(first, last - first);
    args.b = factor_.Rows(first, last - first).Cols(begin, size);
    args.c = carried_.view().Cols(begin - carried_begin, size);
    args.update = update;
    products_.Run(args);
  }

  // body(begin, end) for pieces of the rows.
  template <class Body>
  void ForRows(const Body& body) {
    pool_.ParallelFor(
        weights_.rows(), kRowsOfTask,
        [&](int64_t begin, int64_t end, int /*thread*/) { body(begin, end); });
  }

  template <class Groups>
  void Propagate(const Groups& groups, const Block& block, GptqSweep* sweep) {
    ForRows([&](int64_t row, int64_t end) {
      for (; row < end; row += kLockstep) {
        PropagateRows(groups, row, std::min(kLockstep, end - row), block,
                      sweep);
      }
    });
  }

  template <class Groups>
  void PropagateRows(const Groups& groups, int64_t row, int64_t rows,
                     const Block& block, GptqSweep* sweep) {
    constexpr int64_t kVector = 16;
    const int64_t stride = carried_.cols();
    float* all_carried =
        carried_.row(row) + (block.begin - block.carried_begin);
    double losses[kLockstep] = {};
    for (int64_t j = 0; j < block.size; ++j) {
      const float* factor = factor_.row(block.begin + j) + block.begin;
      float lost[kLockstep];
      for (int64_t r = 0; r < rows; ++r) {
        const float carried = all_carried[r * stride + j];
        lost[r] = ChooseCode(groups, row + r, block.begin + j, carried, sweep);
        const double error = static_cast<double>(carried) +
                             static_cast<double>(lost[r]) * factor[j];
        losses[r] += error * error;
      }
      // From where vectors begin: what was carried to columns before the next
      // is not read any more.
      const int64_t next = (j + 1) / kVector * kVector;
      AddScaledToRows(rows, block.size - next, lost, factor + next,
                      all_carried + next, stride);
    }
    for (int64_t r = 0; r < rows; ++r) {
      sweep->losses[static_cast<size_t>(row + r)] += losses[r];
    }
  }

  // Nothing that is chosen depends on what is carried.
  template <class Groups>
  void Round(const Groups& groups, const Block& block, GptqSweep* sweep) {
    ForRows([&](int64_t row, int64_t end) {
      for (; row < end; ++row) {
        for (int64_t j = 0; j < block.size; ++j) {
          ChooseCode(groups, row, block.begin + j, 0, sweep);
        }
      }
    });
    // Without its diagonal.
    Matrix<float> triangle(block.size, block.size);
    for (int64_t i = 0; i < block.size; ++i) {
      const float* factor = factor_.row(block.begin + i) + block.begin;
      std::copy(factor + i + 1, factor + block.size, triangle.row(i) + i + 1);
    }
    SgemmArgs args;
    args.a = left_.view().Cols(block.begin, block.size);
    args.b = triangle.view();
    args.c =
        carried_.view().Cols(block.begin - block.carried_begin, block.size);
    args.update = SgemmUpdate::kAdd;
    products_.Run(args);
    ForRows([&](int64_t row, int64_t end) {
      for (; row < end; ++row) {
        const float* carried =
            carried_.row(row) + (block.begin - block.carried_begin);
        double loss = 0;
        for (int64_t j = 0; j < block.size; ++j) {
          const int64_t n = block.begin + j;
          const double error =
              static_cast<double>(carried[j]) +
              static_cast<double>(left_.row(row)[n]) * factor_.row(n)[n];
          loss += error * error;
        }
        sweep->losses[static_cast<size_t>(row)] += loss;
      }
    });
  }

  // What the nearest code of the weight that comes `n`-th loses, given what is
  // carried to it.
  template <class Groups>
  float ChooseCode(const Groups& groups, int64_t row, int64_t n, float carried,
                   GptqSweep* sweep) {
    const size_t position = static_cast<size_t>(n);
    const float w = weights_.row(row)[n];
    const typename Groups::Params& params = groups.Row(row)[group_[position]];
    const float wanted = w != 0 ? w + carried * inverse_[position] : w;
    const uint8_t code = groups.Code(wanted, params);
    const float lost = w - groups.Value(code, params);
    sweep->codes[static_cast<size_t>(row * weights_.cols() + n)] = code;
    sweep->saturated[static_cast<size_t>(row)] +=
        groups.Saturates(wanted, code, params);
    left_.row(row)[n] = lost;
    return lost;
  }

  Matrix<float> weights_;  // columns in the order
  const std::vector<int64_t>& order_;
  const MatrixView<const float> factor_;
  ThreadPool& pool_;
  TimedProducts products_;
  Matrix<float> left_;          // d, in that order
  Matrix<float> carried_;       // to kCarried columns
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
