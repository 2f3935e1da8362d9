// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/awq.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <utility>

#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/scaled_rounding.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Exponents that are tried: 1/20, 2/20, ... 1.
constexpr int kSteps = 20;

constexpr float kSmallest = 1e-4f;

constexpr int64_t kRowsOfTask = 8;

class Search {
 public:
  Search(absl::Span<const MatrixView<const float>> consumers,
         absl::Span<const double> magnitudes, const Matrix<float>& hessian,
         absl::Span<const int64_t> channel_of, int64_t channels,
         const AwqOptions& options, ThreadPool& pool)
      : options_(options),
        pool_(pool),
        weights_(SampleRows(consumers, options.sampled_rows)),
        shape_(options.scheme, weights_.rows(), weights_.cols()),
        hessian_(hessian.rows(), hessian.cols()),
        channel_of_(channel_of.begin(), channel_of.end()),
        errors_(weights_.rows(), weights_.cols()),
        products_(weights_.rows(), weights_.cols()) {
    for (int64_t i = 0; i < hessian.rows(); ++i) {
      for (int64_t j = i; j < hessian.rows(); ++j) {
        hessian_.row(i)[j] = hessian_.row(j)[i] = hessian.row(i)[j];
      }
    }
    if (channel_of_.empty()) {
      channel_of_.resize(static_cast<size_t>(weights_.cols()));
      std::iota(channel_of_.begin(), channel_of_.end(), int64_t{0});
    }
    inputs_ = MeansOf(channels, [&](int64_t col) {
      return magnitudes[static_cast<size_t>(col)];
    });
    columns_ = MeansOf(channels, RelativeMagnitudes());
  }

  AwqScales Run() {
    AwqScales best;
    best.scales.assign(inputs_.size(), 1.0f);
    best.loss = best.identity_loss = LossOf(best.scales);
    for (int step = 1; step <= kSteps; ++step) {
      const float exponent =
          static_cast<float>(step) / static_cast<float>(kSteps);
      for (const bool look_at_weights : {false, true}) {
        std::vector<float> scales = Scales(exponent, look_at_weights);
        const double loss = LossOf(scales);
        if (!(loss < best.loss)) continue;
        best.loss = loss;
        best.scales = std::move(scales);
      }
    }
    return best;
  }

 private:
  // Means over the columns of each channel.
  template <typename ValueOf>
  std::vector<float> MeansOf(int64_t channels, ValueOf value_of) const {
    std::vector<double> sums(static_cast<size_t>(channels));
    std::vector<int64_t> counts(sums.size());
    for (int64_t c = 0; c < weights_.cols(); ++c) {
      const size_t channel =
          static_cast<size_t>(channel_of_[static_cast<size_t>(c)]);
      sums[channel] += value_of(c);
      ++counts[channel];
    }
    std::vector<float> means;
    for (size_t i = 0; i < sums.size(); ++i) {
      means.push_back(static_cast<float>(
          sums[i] / static_cast<double>(std::max<int64_t>(1, counts[i]))));
    }
    return means;
  }

  // Of a column: the mean of |w| over the largest of its group.
  std::function<double(int64_t)> RelativeMagnitudes() const {
    std::vector<double> sums(static_cast<size_t>(weights_.cols()));
    for (int64_t r = 0; r < weights_.rows(); ++r) {
      const float* row = weights_.row(r);
      for (int64_t begin = 0; begin < shape_.cols;
           begin += shape_.group_elems) {
        const int64_t end = std::min(shape_.cols, begin + shape_.group_elems);
        float most = 0;
        for (int64_t c = begin; c < end; ++c) {
          most = std::max(most, std::abs(row[c]));
        }
        for (int64_t c = begin; c < end; ++c) {
          sums[static_cast<size_t>(c)] +=
              static_cast<double>(std::abs(row[c]) / (most + 1e-6f));
        }
      }
    }
    return [this, sums](int64_t col) {
      return sums[static_cast<size_t>(col)] /
             static_cast<double>(weights_.rows());
    };
  }

  // With a geometric middle of 1; 1 where they would not be finite.
  std::vector<float> Scales(float exponent, bool look_at_weights) const {
    std::vector<float> scales;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      float scale = std::pow(inputs_[i], exponent);
      if (look_at_weights) {
        scale /= std::pow(columns_[i], 1 - exponent) + kSmallest;
      }
      scales.push_back(std::max(scale, kSmallest));
    }
    CenterScales(&scales);
    return scales;
  }

  // sum over the rows of e H e^T, e what rounding leaves.
  double LossOf(const std::vector<float>& scales) {
    std::vector<float> scale_of;  // of a column
    for (const int64_t channel : channel_of_) {
      scale_of.push_back(scales[static_cast<size_t>(channel)]);
    }
    pool_.ParallelFor(weights_.rows(), kRowsOfTask,
                      [&](int64_t row, int64_t end, int /*thread*/) {
                        std::vector<float> scaled;
                        for (; row < end; ++row) Round(row, scale_of, &scaled);
                      });
    SgemmArgs args;
    args.a = errors_.view();
    args.b = hessian_.view();
    args.c = products_.view();
    Sgemm(args, pool_);
    double loss = 0;
    for (int64_t r = 0; r < errors_.rows(); ++r) {
      for (int64_t c = 0; c < errors_.cols(); ++c) {
        loss += static_cast<double>(errors_.row(r)[c]) *
                static_cast<double>(products_.row(r)[c]);
      }
    }
    return loss;
  }

  void Round(int64_t row, const std::vector<float>& scale_of,
             std::vector<float>* scaled) {
    const float* weights = weights_.row(row);
    float* errors = errors_.row(row);
    RoundScaled(options_.scheme, options_.scale_dtype,
                absl::MakeConstSpan(weights, scale_of.size()), scale_of, scaled,
                errors);
    for (int64_t c = 0; c < shape_.cols; ++c) {
      errors[c] = weights[c] - errors[c];
    }
  }

  const AwqOptions& options_;
  ThreadPool& pool_;
  const Matrix<float> weights_;  // of the sampled rows
  const QuantizedShape shape_;
  Matrix<float> hessian_;  // both triangles
  std::vector<int64_t> channel_of_;
  std::vector<float> inputs_;   // of a channel: mean |x|
  std::vector<float> columns_;  // of a channel: RelativeMagnitudes
  Matrix<float> errors_;
  Matrix<float> products_;
};

}  // namespace

AwqScales SearchAwqScales(absl::Span<const MatrixView<const float>> consumers,
                          absl::Span<const double> magnitudes,
                          const Matrix<float>& hessian,
                          absl::Span<const int64_t> channel_of,
                          int64_t channels, const AwqOptions& options,
                          ThreadPool& pool) {
  QEFF_CHECK(!consumers.empty());
  const int64_t cols = consumers[0].cols();
  for (const auto& consumer : consumers) QEFF_CHECK(consumer.cols() == cols);
  QEFF_CHECK(static_cast<int64_t>(magnitudes.size()) == cols &&
             hessian.rows() == cols && hessian.cols() == cols);
  QEFF_CHECK(channel_of.empty() ? channels == cols
                                : channel_of.size() == magnitudes.size());
  return Search(consumers, magnitudes, hessian, channel_of, channels, options,
                pool)
      .Run();
}

}  // namespace qeff
