// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/quant/gptq_choice.h"
#include "qeff/quant/mse_search.h"
#include "qeff/quant/upper_factor.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// What is tried for the damping, in multiples.
constexpr double kDampingSteps[] = {1, 10, 100};

constexpr int64_t kRowsOfTask = 16;

// Groups and their parameters, which rounding and GPTQ share.
class Groups {
 public:
  using Params = GroupParams;
  static constexpr bool kFreeScales = true;

  // `energy`: importance of the columns; empty: ranges decide.
  Groups(MatrixView<const float> weights, const GptqOptions& options,
         const std::vector<float>& energy, ThreadPool& pool)
      : bits_(options.scheme.bits),
        scale_dtype_(options.scale_dtype),
        shape_(options.scheme, weights.rows(), weights.cols()),
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

  // Parameters of the groups of a row.
  const GroupParams* Row(int64_t row) const {
    return params_.data() + row * shape_.groups;
  }
  int64_t group_elems() const { return shape_.group_elems; }

  uint8_t Code(float wanted, const GroupParams& params) const {
    return QuantizeValue(wanted, params, bits_);
  }
  float Value(uint8_t code, const GroupParams& params) const {
    return DequantizeValue(code, params.zero, params.scale);
  }
  // Whether `code` is farther from `wanted` than rounding explains. What lies
  // outside of a group's range by less than float32 can tell does not count.
  bool Saturates(float wanted, uint8_t code, const GroupParams& params) const {
    const float steps =
        wanted * params.inverse -
        static_cast<float>(static_cast<int>(code) - params.zero);
    return std::abs(steps) > 0.501f;
  }

  float Unscaled(uint8_t code, const GroupParams& params) const {
    return static_cast<float>(static_cast<int>(code) - params.zero);
  }
  // A scale that would be another sign's, or far off, is not taken.
  void SetScale(int64_t row, int64_t group, double scale) {
    GroupParams& params =
        params_[static_cast<size_t>(row * shape_.groups + group)];
    uint8_t stored[sizeof(float)];
    StoreScale(static_cast<float>(scale), scale_dtype_, stored);
    const float rounded = LoadScale(scale_dtype_, stored);
    const float ratio = rounded / params.scale;
    constexpr float kMost = 4.0f;
    if (!(ratio > 1 / kMost && ratio < kMost)) return;
    params.scale = rounded;
    params.inverse = 1.0f / rounded;
  }

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
        params = LeastErrorParams(
            options.scheme, group,
            absl::MakeSpan(energy).subspan(static_cast<size_t>(begin), size),
            options.scale_dtype);
      }
    }
  }

  int bits_;
  DType scale_dtype_;
  QuantizedShape shape_;
  std::vector<GroupParams> params_;  // [rows, groups]
};

// Sets what is below the diagonal to what is above.
void Symmetrize(Matrix<float>* h, ThreadPool& pool) {
  constexpr int64_t kTile = 32;
  const int64_t n = h->rows();
  pool.ParallelFor(n, kTile, [&](int64_t begin, int64_t end, int /*thread*/) {
    for (int64_t first = 0; first < end; first += kTile) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t last = std::min(r, first + kTile);
        for (int64_t c = first; c < last; ++c) {
          h->row(r)[c] = h->row(c)[r];
        }
      }
    }
  });
}

// The symmetric H with rows and columns in `order`, above the diagonal, and
// `added` on it.
Matrix<float> Ordered(const Matrix<float>& h, const std::vector<int64_t>& order,
                      float added, ThreadPool& pool) {
  constexpr int64_t kRowsOfTask = 16;
  const int64_t n = h.rows();
  Matrix<float> out(n, n);
  pool.ParallelFor(n, kRowsOfTask, [&](int64_t r, int64_t end, int /*thread*/) {
    for (; r < end; ++r) {
      const float* from = h.row(order[static_cast<size_t>(r)]);
      for (int64_t c = r; c < n; ++c) {
        out.row(r)[c] = from[order[static_cast<size_t>(c)]];
      }
      out.row(r)[r] += added;
    }
  });
  return out;
}

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

std::vector<int64_t> OrderOf(const Matrix<float>& h,
                             const GptqOptions& options) {
  const int64_t n = h.rows();
  const int64_t size = options.order_group;
  const int64_t count = (n + size - 1) / size;
  std::vector<int64_t> groups(static_cast<size_t>(count));
  std::iota(groups.begin(), groups.end(), int64_t{0});
  if (options.order_by_energy) {
    // Of the last, which may be shorter, what it has.
    std::vector<double> energy(groups.size());
    for (int64_t i = 0; i < n; ++i) {
      energy[static_cast<size_t>(i / size)] += h.data()[i * n + i];
    }
    std::stable_sort(groups.begin(), groups.end(), [&](int64_t i, int64_t j) {
      return energy[static_cast<size_t>(i)] > energy[static_cast<size_t>(j)];
    });
  }
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(n));
  for (const int64_t group : groups) {
    const int64_t end = std::min(n, (group + 1) * size);
    for (int64_t i = group * size; i < end; ++i) order.push_back(i);
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

}  // namespace

FactoredHessian FactorHessian(Matrix<float> hessian, const GptqOptions& options,
                              ThreadPool& pool) {
  QEFF_CHECK(hessian.rows() == hessian.cols());
  FactoredHessian result;
  const double mean_energy = MeanEnergy(hessian);
  result.dead_inputs = ReviveDeadInputs(&hessian);
  if (!std::isfinite(mean_energy)) return result;
  Symmetrize(&hessian, pool);
  std::vector<int64_t> order = OrderOf(hessian, options);
  for (int64_t i = 0; i < hessian.rows(); ++i) {
    result.energy.push_back(hessian.row(i)[i]);
  }
  TimedProducts products(pool);
  for (const double step : kDampingSteps) {
    const double added = step * options.damping * mean_energy;
    result.factor = Ordered(hessian, order, static_cast<float>(added), pool);
    const bool factored =
        FactorUpper(result.factor.view(), &result.inverses, products);
    result.products = products.work();
    if (!factored) continue;
    result.damping = added;
    result.order = std::move(order);
    if (options.refine) {
      for (int64_t r = 0; r < hessian.rows(); ++r) {
        hessian.row(r)[r] += static_cast<float>(added);
      }
      result.damped = std::move(hessian);
    }
    return result;
  }
  result.factor = Matrix<float>();
  result.inverses = Matrix<float>();
  result.energy.clear();
  return result;
}

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

absl::StatusOr<GptqResult> QuantizeGptq(MatrixView<const float> weights,
                                        const FactoredHessian& hessian,
                                        const GptqOptions& options,
                                        ThreadPool& pool) {
  QEFF_CHECK(!hessian.usable() || hessian.factor.rows() == weights.cols());
  QEFF_RETURN_IF_ERROR(CheckFinite(weights));
  std::function<Groups()> searched;
  if (options.search_groups) {
    searched = [&] { return Groups(weights, options, hessian.energy, pool); };
  }
  GptqChoice<Groups> choice = ChooseCodes<Groups>(
      weights, hessian.order, hessian.factor.view(), hessian.damped.view(),
      options.propagate, options.scheme.bits,
      Groups(weights, options, /*energy=*/{}, pool), searched, pool);
  GptqResult result;
  static_cast<GptqLosses&>(result) = choice.losses;
  result.codes = std::move(choice.codes);
  choice.groups.Store(options, &result);
  return result;
}

}  // namespace qeff
