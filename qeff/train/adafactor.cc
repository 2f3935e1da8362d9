// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/adafactor.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

// The paper's epsilon_1, and the exponent of beta (its section 7.2).
constexpr double kLeastSquare = 1e-30;
constexpr double kDecayExponent = -0.8;

// Sums side by side, so that additions need not wait for one another.
constexpr int64_t kLanes = 16;

// Adds the squares of a row to the sums of the columns, and returns their sum.
QEFF_VECTOR_CLONES double AddSquares(int64_t cols, const float* __restrict row,
                                     double* __restrict col_sums) {
  double sums[kLanes] = {};
  const int64_t whole = cols / kLanes * kLanes;
  for (int64_t c = 0; c < whole; c += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = row[c + lane];
      const double square = value * value;
      col_sums[c + lane] += square;
      sums[lane] += square;
    }
  }
  double sum = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  for (int64_t c = whole; c < cols; ++c) {
    const double value = row[c];
    col_sums[c] += value * value;
    sum += value * value;
  }
  return sum;
}

// The sum of (row * factors)^2.
QEFF_VECTOR_CLONES double SumOfScaledSquares(int64_t cols,
                                             const float* __restrict row,
                                             const float* __restrict factors) {
  double sums[kLanes] = {};
  const int64_t whole = cols / kLanes * kLanes;
  for (int64_t c = 0; c < whole; c += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = row[c + lane] * factors[c + lane];
      sums[lane] += value * value;
    }
  }
  double sum = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  for (int64_t c = whole; c < cols; ++c) {
    const double value = row[c] * factors[c];
    sum += value * value;
  }
  return sum;
}

QEFF_VECTOR_CLONES void StepRow(int64_t cols, float rate, float decay,
                                const float* __restrict row,
                                const float* __restrict factors,
                                float* __restrict value) {
  for (int64_t c = 0; c < cols; ++c) {
    value[c] -= rate * (row[c] * factors[c]) + decay * value[c];
  }
}

// What updates with this mean square are multiplied with: 1 is let through.
double Clip(double square) { return 1 / std::max(1.0, std::sqrt(square)); }

double Blend(double old_share, float old_value, double new_value) {
  return old_share * static_cast<double>(old_value) +
         (1 - old_share) * (new_value + kLeastSquare);
}

// Vectors are small: plain loops.
void StepVector(double old_share, float gradient_scale, double learning_rate,
                float decay, absl::Span<const float> gradient,
                absl::Span<float> squares, absl::Span<float> value) {
  const auto update = [&](size_t i) {
    return static_cast<double>(gradient_scale * gradient[i]) /
           std::sqrt(static_cast<double>(squares[i]));
  };
  double sum = 0;
  for (size_t i = 0; i < value.size(); ++i) {
    const double g = gradient_scale * gradient[i];
    squares[i] = static_cast<float>(Blend(old_share, squares[i], g * g));
    sum += update(i) * update(i);
  }
  const double rate =
      learning_rate * Clip(sum / static_cast<double>(value.size()));
  for (size_t i = 0; i < value.size(); ++i) {
    value[i] -= static_cast<float>(rate * update(i)) + decay * value[i];
  }
}

}  // namespace

Adafactor::Adafactor(const OptimizerOptions& options,
                     const std::vector<ParameterShape>& shapes)
    : weight_decay_(options.weight_decay) {
  size_t most_rows = 0, most_cols = 0;
  for (const ParameterShape& shape : shapes) {
    const size_t rows = static_cast<size_t>(shape.rows);
    const size_t cols = static_cast<size_t>(shape.cols);
    if (rows >= 2 && cols >= 2) {
      parameters_.push_back(
          {shape, AlignedArray<float>(rows), AlignedArray<float>(cols)});
      most_rows = std::max(most_rows, rows);
      most_cols = std::max(most_cols, cols);
    } else {
      parameters_.push_back({shape, AlignedArray<float>(rows * cols), {}});
    }
  }
  col_sums_ = AlignedArray<double>(kRuns * most_cols);
  row_sums_ = AlignedArray<double>(most_rows);
  row_factors_ = AlignedArray<float>(most_rows);
  col_factors_ = AlignedArray<float>(most_cols);
}

void Adafactor::Step(size_t parameter, int64_t step, double learning_rate,
                     float gradient_scale, absl::Span<const float> gradient,
                     absl::Span<float> value, ThreadPool& pool) {
  QEFF_CHECK(parameter < parameters_.size() && step >= 1);
  Parameter& p = parameters_[parameter];
  QEFF_CHECK(gradient.size() ==
             static_cast<size_t>(p.shape.rows * p.shape.cols));
  QEFF_CHECK(value.size() == gradient.size());
  Rates rates;
  rates.old_share = 1 - std::pow(static_cast<double>(step), kDecayExponent);
  rates.gradient_scale = gradient_scale;
  rates.square_scale = static_cast<double>(gradient_scale) * gradient_scale;
  rates.learning_rate = learning_rate;
  rates.decay =
      p.shape.decays ? static_cast<float>(learning_rate * weight_decay_) : 0.0f;
  if (p.factored()) {
    StepMatrix(rates, gradient.data(), value.data(), p, pool);
  } else {
    StepVector(rates.old_share, gradient_scale, learning_rate, rates.decay,
               gradient, p.rows.span(), value);
  }
}

void Adafactor::UpdateMeans(const Rates& rates, const float* gradient,
                            Parameter& p, ThreadPool& pool) {
  const int64_t rows = p.shape.rows, cols = p.shape.cols;
  const int64_t rows_of_run = CeilDiv(rows, kRuns);
  const int64_t runs = CeilDiv(rows, rows_of_run);
  pool.ParallelFor(runs, 1, [&](int64_t begin, int64_t end, int /*thread*/) {
    for (int64_t run = begin; run < end; ++run) {
      double* col_sums = col_sums_.data() + run * cols;
      std::fill(col_sums, col_sums + cols, 0.0);
      const int64_t last = std::min(rows, (run + 1) * rows_of_run);
      for (int64_t r = run * rows_of_run; r < last; ++r) {
        row_sums_.data()[r] = AddSquares(cols, gradient + r * cols, col_sums);
      }
    }
  });
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    float& mean = p.rows.data()[r];
    mean = static_cast<float>(Blend(
        rates.old_share, mean,
        rates.square_scale * row_sums_.data()[r] / static_cast<double>(cols)));
    sum += static_cast<double>(mean);
  }
  for (int64_t r = 0; r < rows; ++r) {
    row_factors_.data()[r] =
        static_cast<float>(std::sqrt(sum / static_cast<double>(rows) /
                                     static_cast<double>(p.rows.data()[r])) *
                           static_cast<double>(rates.gradient_scale));
  }
  const int64_t grain = BalancedGrain(cols, pool.num_threads(), 256);
  pool.ParallelFor(cols, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t c = begin; c < end; ++c) {
      double col_sum = 0;
      for (int64_t run = 0; run < runs; ++run) {
        col_sum += col_sums_.data()[run * cols + c];
      }
      float& mean = p.cols.data()[c];
      mean = static_cast<float>(
          Blend(rates.old_share, mean,
                rates.square_scale * col_sum / static_cast<double>(rows)));
      col_factors_.data()[c] =
          static_cast<float>(1 / std::sqrt(static_cast<double>(mean)));
    }
  });
}

void Adafactor::StepMatrix(const Rates& rates, const float* gradient,
                           float* value, Parameter& p, ThreadPool& pool) {
  UpdateMeans(rates, gradient, p, pool);
  const int64_t rows = p.shape.rows, cols = p.shape.cols;
  const int64_t grain =
      BalancedGrain(rows, pool.num_threads(), CeilDiv<int64_t>(4096, cols));
  pool.ParallelFor(rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      row_sums_.data()[r] =
          SumOfScaledSquares(cols, gradient + r * cols, col_factors_.data());
    }
  });
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const double factor = row_factors_.data()[r];
    sum += factor * factor * row_sums_.data()[r];
  }
  const double rate =
      rates.learning_rate *
      Clip(sum / (static_cast<double>(rows) * static_cast<double>(cols)));
  pool.ParallelFor(rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      StepRow(cols,
              static_cast<float>(rate *
                                 static_cast<double>(row_factors_.data()[r])),
              rates.decay, gradient + r * cols, col_factors_.data(),
              value + r * cols);
    }
  });
}

std::vector<std::pair<std::string, absl::Span<float>>> Adafactor::State() {
  std::vector<std::pair<std::string, absl::Span<float>>> state;
  for (Parameter& p : parameters_) {
    if (p.factored()) {
      state.emplace_back(absl::StrCat(p.shape.name, ".row_moment"),
                         p.rows.span());
      state.emplace_back(absl::StrCat(p.shape.name, ".column_moment"),
                         p.cols.span());
    } else {
      state.emplace_back(absl::StrCat(p.shape.name, ".second_moment"),
                         p.rows.span());
    }
  }
  return state;
}

}  // namespace qeff
