// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/add_scaled.h"
#include "qeff/quant/group_search.h"
#include "qeff/quant/upper_factor.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Columns whose errors are propagated one by one; those of earlier blocks come
// as one product.
constexpr int64_t kBlock = 128;

// What is tried for the damping, in multiples.
constexpr double kDampingSteps[] = {1, 10, 100};

constexpr int64_t kRowsOfTask = 16;

// Groups and their parameters, which rounding and GPTQ share.
class Groups {
 public:
  // `energy`: importance of the columns; empty: ranges decide.
  Groups(MatrixView<const float> weights, const GptqOptions& options,
         const std::vector<float>& energy, ThreadPool& pool)
      : shape_(options.scheme, weights.rows(), weights.cols()),
        params_(static_cast<size_t>(shape_.rows * shape_.groups)) {
    pool.ParallelFor(shape_.rows, kRowsOfTask,
                     [&](int64_t row, int64_t end, int /*thread*/) {
                       for (; row < end; ++row) {
                         ChooseRow(weights.row(row), row, options, energy);
                       }
                     });
  }

  void CopyRow(const Groups& from, int64_t row) {
    std::copy_n(from.params_.begin() + row * shape_.groups, shape_.groups,
                params_.begin() + row * shape_.groups);
  }

  const GroupParams& Of(int64_t row, int64_t col) const {
    return Row(row)[col / shape_.group_elems];
  }
  // Parameters of the groups of a row.
  const GroupParams* Row(int64_t row) const {
    return params_.data() + row * shape_.groups;
  }
  int64_t group_elems() const { return shape_.group_elems; }

  void Store(const GptqOptions& options, GptqResult* result) const {
    const size_t bytes = DTypeBytes(options.scale_dtype);
    result->scales.resize(params_.size() * bytes);
    if (shape_.asymmetric) result->zeros.resize(params_.size());
    for (size_t i = 0; i < params_.size(); ++i) {
      StoreScale(params_[i].scale, options.scale_dtype,
                 result->scales.data() + i * bytes);
      if (shape_.asymmetric) {
        result->zeros[i] = static_cast<uint8_t>(params_[i].zero);
      }
    }
  }

 private:
  void ChooseRow(const float* weights, int64_t row, const GptqOptions& options,
                 const std::vector<float>& energy) {
    for (int64_t g = 0; g < shape_.groups; ++g) {
      const int64_t begin = g * shape_.group_elems;
      const size_t size = static_cast<size_t>(
          std::min(shape_.cols - begin, shape_.group_elems));
      const absl::Span<const float> group(weights + begin, size);
      GroupParams& params =
          params_[static_cast<size_t>(row * shape_.groups + g)];
      if (energy.empty()) {
        const auto range = std::minmax_element(group.begin(), group.end());
        params = ComputeGroupParams(options.scheme, *range.first, *range.second,
                                    options.scale_dtype);
      } else {
        params = SearchGroupParams(
            options.scheme, group,
            absl::MakeSpan(energy).subspan(static_cast<size_t>(begin), size),
            options.scale_dtype);
      }
    }
  }

  QuantizedShape shape_;
  std::vector<GroupParams> params_;  // [rows, groups]
};

absl::Status CheckFinite(MatrixView<const float> weights) {
  for (int64_t r = 0; r < weights.rows(); ++r) {
    for (int64_t c = 0; c < weights.cols(); ++c) {
      if (std::isfinite(weights.row(r)[c])) continue;
      return absl::DataLossError(
          absl::StrCat("element [", r, ", ", c, "] is NaN or infinite"));
    }
  }
  return absl::OkStatus();
}

// H with rows and columns in `order`, above the diagonal, and `added` on it.
Matrix<float> Ordered(const Matrix<float>& h, const std::vector<int64_t>& order,
                      float added) {
  const int64_t n = h.rows();
  Matrix<float> out(n, n);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t c = r; c < n; ++c) {
      const int64_t i = order[static_cast<size_t>(r)];
      const int64_t j = order[static_cast<size_t>(c)];
      out.data()[r * n + c] = h.data()[std::min(i, j) * n + std::max(i, j)];
    }
    out.data()[r * n + r] += added;
  }
  return out;
}

// Whether `code` is farther from `wanted` than rounding explains. What lies
// outside of a group's range by less than float32 can tell does not count.
bool Saturates(float wanted, uint8_t code, const GroupParams& params) {
  const float steps = wanted * params.inverse -
                      static_cast<float>(static_cast<int>(code) - params.zero);
  return std::abs(steps) > 0.501f;
}

// Codes of all rows, and what they lose.
struct Sweep {
  std::vector<uint8_t> codes;      // [rows, cols], columns in the order
  std::vector<double> losses;      // of a row
  std::vector<int64_t> saturated;  // of a row
};

// A layer whose Hessian is factored.
class Layer {
 public:
  Layer(MatrixView<const float> weights, int bits,
        const FactoredHessian& hessian, ThreadPool& pool)
      : weights_(weights.rows(), weights.cols()),
        bits_(bits),
        order_(hessian.order),
        factor_(hessian.factor.view()),
        pool_(pool),
        left_(weights.rows(), weights.cols()),
        carried_(weights.rows(), std::min(kBlock, weights.cols())),
        group_(hessian.order.size()),
        inverse_(hessian.order.size()) {
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
  // rounding to nearest.
  Sweep Quantize(const Groups& groups, bool propagate) {
    const size_t rows = static_cast<size_t>(weights_.rows());
    Sweep sweep;
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

  void QuantizeRow(const Groups& groups, int64_t row, int64_t begin,
                   int64_t size, bool propagate, Sweep* sweep) {
    float* carried = carried_.row(row);
    float* left = left_.row(row);
    const float* weights = weights_.row(row) + begin;
    uint8_t* codes = sweep->codes.data() + row * weights_.cols() + begin;
    const GroupParams* row_groups = groups.Row(row);
    double loss = 0;
    int64_t saturated = 0;
    for (int64_t j = 0; j < size; ++j) {
      const size_t position = static_cast<size_t>(begin + j);
      const float* factor = factor_.row(begin + j) + begin;
      const float w = weights[j];
      const GroupParams& params = row_groups[group_[position]];
      const float wanted = propagate ? w + carried[j] * inverse_[position] : w;
      const uint8_t code = QuantizeValue(wanted, params, bits_);
      const float d = w - DequantizeValue(code, params.zero, params.scale);
      codes[j] = code;
      saturated += Saturates(wanted, code, params);
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
  const int bits_;
  const std::vector<int64_t>& order_;
  const MatrixView<const float> factor_;
  ThreadPool& pool_;
  Matrix<float> left_;          // d, in that order
  Matrix<float> carried_;       // of a block
  std::vector<int32_t> group_;  // of the column that comes i-th
  std::vector<float> inverse_;  // 1 / R_ii
};

// Inputs that were always 0 get an energy of their own, which ties them to
// none.
int64_t ReviveDeadInputs(Matrix<float>* h) {
  const int64_t n = h->rows();
  int64_t dead = 0;
  for (int64_t i = 0; i < n; ++i) {
    float& energy = h->data()[i * n + i];
    if (energy != 0) continue;
    ++dead;
    energy = 1;
  }
  return dead;
}

std::vector<int64_t> OrderOf(const Matrix<float>& h, bool by_energy) {
  const int64_t n = h.rows();
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (by_energy) {
    std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
      return h.data()[i * n + i] > h.data()[j * n + j];
    });
  }
  return order;
}

// Mean of the diagonal; NaN or infinite if any of it is.
double MeanEnergy(const Matrix<float>& h) {
  double sum = 0;
  for (int64_t i = 0; i < h.rows(); ++i) {
    sum += static_cast<double>(h.data()[i * h.rows() + i]);
  }
  return sum / static_cast<double>(h.rows());
}

// Without a Hessian that can be used.
void Round(MatrixView<const float> weights, const Groups& groups, int bits,
           GptqResult* result) {
  for (int64_t r = 0; r < weights.rows(); ++r) {
    for (int64_t c = 0; c < weights.cols(); ++c) {
      result->codes[static_cast<size_t>(r * weights.cols() + c)] =
          QuantizeValue(weights.row(r)[c], groups.Of(r, c), bits);
    }
  }
  result->rounded_rows = weights.rows();
}

// `codes` [rows, cols] with their columns where they belong.
std::vector<uint8_t> InPlace(const std::vector<uint8_t>& codes,
                             const std::vector<int64_t>& order,
                             ThreadPool& pool) {
  const int64_t cols = static_cast<int64_t>(order.size());
  std::vector<uint8_t> result(codes.size());
  pool.ParallelFor(static_cast<int64_t>(codes.size()) / cols, kRowsOfTask,
                   [&](int64_t row, int64_t end, int /*thread*/) {
                     for (; row < end; ++row) {
                       const uint8_t* from = codes.data() + row * cols;
                       uint8_t* to = result.data() + row * cols;
                       for (int64_t i = 0; i < cols; ++i) {
                         to[order[static_cast<size_t>(i)]] = from[i];
                       }
                     }
                   });
  return result;
}

// Takes row `row` of a sweep with `groups` when it loses less than `best`,
// whose rows have the groups `chosen`.
void TakeIfBetter(const Sweep& sweep, const Groups& groups, int64_t row,
                  int64_t cols, Sweep* best, Groups* chosen) {
  const size_t r = static_cast<size_t>(row);
  if (!(sweep.losses[r] < best->losses[r])) return;
  best->losses[r] = sweep.losses[r];
  best->saturated[r] = sweep.saturated[r];
  std::copy_n(sweep.codes.begin() + row * cols, cols,
              best->codes.begin() + row * cols);
  chosen->CopyRow(groups, row);
}

}  // namespace

FactoredHessian FactorHessian(Matrix<float> hessian, const GptqOptions& options,
                              ThreadPool& pool) {
  QEFF_CHECK(hessian.rows() == hessian.cols());
  FactoredHessian result;
  const double mean_energy = MeanEnergy(hessian);
  result.dead_inputs = ReviveDeadInputs(&hessian);
  if (!std::isfinite(mean_energy)) return result;
  std::vector<int64_t> order = OrderOf(hessian, options.order_by_energy);
  for (int64_t i = 0; i < hessian.rows(); ++i) {
    result.energy.push_back(hessian.row(i)[i]);
  }
  for (const double step : kDampingSteps) {
    const double added = step * options.damping * mean_energy;
    result.factor = Ordered(hessian, order, static_cast<float>(added));
    if (!FactorUpper(result.factor.view(), pool)) continue;
    result.damping = added;
    result.order = std::move(order);
    return result;
  }
  result.factor = Matrix<float>();
  result.energy.clear();
  return result;
}

absl::StatusOr<GptqResult> QuantizeGptq(MatrixView<const float> weights,
                                        const FactoredHessian& hessian,
                                        const GptqOptions& options,
                                        ThreadPool& pool) {
  QEFF_CHECK(!hessian.usable() || hessian.factor.rows() == weights.cols());
  QEFF_RETURN_IF_ERROR(CheckFinite(weights));
  Groups groups(weights, options, /*energy=*/{}, pool);
  GptqResult result;
  if (!hessian.usable() || weights.rows() * weights.cols() == 0) {
    result.codes.resize(static_cast<size_t>(weights.rows() * weights.cols()));
    Round(weights, groups, options.scheme.bits, &result);
    groups.Store(options, &result);
    return result;
  }
  Layer layer(weights, options.scheme.bits, hessian, pool);
  Sweep best = layer.Quantize(groups, /*propagate=*/false);
  const std::vector<double> rounding_losses = best.losses;
  const Groups ranges = groups;
  const auto take = [&](const Groups& tried) {
    const Sweep sweep = layer.Quantize(tried, options.propagate);
    for (int64_t r = 0; r < weights.rows(); ++r) {
      TakeIfBetter(sweep, tried, r, weights.cols(), &best, &groups);
    }
  };
  if (options.propagate) take(ranges);
  if (options.search_groups) {
    take(Groups(weights, options, hessian.energy, pool));
  }
  for (size_t r = 0; r < best.losses.size(); ++r) {
    result.rounding_loss += rounding_losses[r];
    result.loss += best.losses[r];
    result.saturated += best.saturated[r];
    result.rounded_rows += best.losses[r] == rounding_losses[r];
  }
  result.codes = InPlace(best.codes, hessian.order, pool);
  groups.Store(options, &result);
  return result;
}

}  // namespace qeff
