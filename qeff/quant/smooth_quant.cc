// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/smooth_quant.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

#include "qeff/calibration/magnitude_histogram.h"
#include "qeff/kernels/sgemm/sgemm.h"
#include "qeff/quant/scaled_rounding.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Strengths that are tried, in hundredths.
constexpr int kWeakest = 30, kStrongest = 90, kStep = 5;

constexpr int64_t kRowsOfTask = 8;

// max |x| codes of 8 bits go to.
constexpr float kLargestCode = 127;

class Search {
 public:
  Search(absl::Span<const MatrixView<const float>> consumers,
         absl::Span<const float> maxima, MatrixView<const float> inputs,
         absl::Span<const int64_t> channel_of, int64_t channels,
         const SmoothQuantOptions& options, ThreadPool& pool)
      : options_(options),
        pool_(pool),
        weights_(SampleRows(consumers, options.sampled_rows)),
        inputs_(inputs),
        channel_of_(channel_of.begin(), channel_of.end()),
        input_maxima_(static_cast<size_t>(channels)),
        weight_maxima_(static_cast<size_t>(channels)),
        rounded_weights_(weights_.rows(), weights_.cols()),
        rounded_inputs_(inputs.rows(), inputs.cols()),
        expected_(inputs.rows(), weights_.rows()),
        outputs_(inputs.rows(), weights_.rows()) {
    if (channel_of_.empty()) {
      channel_of_.resize(static_cast<size_t>(weights_.cols()));
      std::iota(channel_of_.begin(), channel_of_.end(), int64_t{0});
    }
    for (size_t c = 0; c < channel_of_.size(); ++c) {
      float& most = input_maxima_[static_cast<size_t>(channel_of_[c])];
      most = std::max(most, maxima[c]);
    }
    for (const auto& consumer : consumers) AddWeightMaxima(consumer);
    Multiply(inputs_, weights_.view(), &expected_);
  }

  SmoothQuantScales Run() {
    SmoothQuantScales best;
    best.scales.assign(input_maxima_.size(), 1.0f);
    best.loss = best.identity_loss = LossOf(best.scales);
    for (int percent = kWeakest; percent <= kStrongest; percent += kStep) {
      const double strength = percent / 100.0;
      std::vector<float> scales = Scales(static_cast<float>(strength));
      const double loss = LossOf(scales);
      if (!(loss < best.loss)) continue;
      best.loss = loss;
      best.strength = strength;
      best.scales = std::move(scales);
    }
    return best;
  }

 private:
  void AddWeightMaxima(MatrixView<const float> weights) {
    for (int64_t r = 0; r < weights.rows(); ++r) {
      for (size_t c = 0; c < channel_of_.size(); ++c) {
        float& most = weight_maxima_[static_cast<size_t>(channel_of_[c])];
        most = std::max(most, std::abs(weights.row(r)[c]));
      }
    }
  }

  std::vector<float> Scales(float strength) const {
    std::vector<float> scales(input_maxima_.size(), 1.0f);
    std::vector<float> used;  // of the channels with inputs and weights
    const auto is_used = [&](size_t i) {
      return input_maxima_[i] > 0 && weight_maxima_[i] > 0;
    };
    for (size_t i = 0; i < scales.size(); ++i) {
      if (!is_used(i)) continue;
      used.push_back(std::pow(input_maxima_[i], strength) /
                     std::pow(weight_maxima_[i], 1 - strength));
    }
    if (used.empty()) return scales;
    CenterScales(&used);
    size_t next = 0;
    for (size_t i = 0; i < scales.size(); ++i) {
      if (is_used(i)) scales[i] = used[next++];
    }
    return scales;
  }

  // y = x W^T.
  void Multiply(MatrixView<const float> x, MatrixView<const float> weights,
                Matrix<float>* y) const {
    SgemmArgs args;
    args.a = x;
    args.b = weights;
    args.b_transposed = true;
    args.c = y->view();
    Sgemm(args, pool_);
  }

  double LossOf(const std::vector<float>& scales) {
    std::vector<float> scale_of;  // of a column
    for (const int64_t channel : channel_of_) {
      scale_of.push_back(scales[static_cast<size_t>(channel)]);
    }
    pool_.ParallelFor(
        weights_.rows(), kRowsOfTask,
        [&](int64_t row, int64_t end, int /*thread*/) {
          std::vector<float> scaled;
          for (; row < end; ++row) {
            RoundScaled(options_.scheme, options_.scale_dtype,
                        absl::MakeConstSpan(weights_.row(row), scale_of.size()),
                        scale_of, &scaled, rounded_weights_.row(row));
          }
        });
    RoundInputs(scale_of);
    Multiply(rounded_inputs_.view(), rounded_weights_.view(), &outputs_);
    double loss = 0;
    for (size_t i = 0; i < outputs_.span().size(); ++i) {
      const double d = static_cast<double>(outputs_.span()[i]) -
                       static_cast<double>(expected_.span()[i]);
      loss += d * d;
    }
    return loss;
  }

  // What 8 bits make of inputs / scale_of, times scale_of.
  void RoundInputs(const std::vector<float>& scale_of) {
    for (int64_t r = 0; r < inputs_.rows(); ++r) {
      for (size_t c = 0; c < scale_of.size(); ++c) {
        rounded_inputs_.row(r)[c] = inputs_.row(r)[c] / scale_of[c];
      }
    }
    float scale = 0;
    if (options_.scheme.inputs == InputCodes::kStatic) {
      MagnitudeHistogram magnitudes;
      magnitudes.Add(rounded_inputs_.view(), pool_);
      scale = ObservedScale(magnitudes, options_.observer);
    }
    pool_.ParallelFor(inputs_.rows(), kRowsOfTask,
                      [&](int64_t row, int64_t end, int /*thread*/) {
                        for (; row < end; ++row) {
                          RoundInput(scale_of, scale, rounded_inputs_.row(row));
                        }
                      });
  }

  // `scale` 0: the row's own.
  static void RoundInput(const std::vector<float>& scale_of, float scale,
                         float* row) {
    if (scale == 0) {
      float most = 0;
      for (size_t c = 0; c < scale_of.size(); ++c) {
        most = std::max(most, std::abs(row[c]));
      }
      scale = most / kLargestCode;
    }
    if (scale < 0x1p-126f) return;
    for (size_t c = 0; c < scale_of.size(); ++c) {
      const float code = std::nearbyint(
          std::min(std::max(row[c] / scale, -kLargestCode), kLargestCode));
      row[c] = code * scale * scale_of[c];
    }
  }

  const SmoothQuantOptions& options_;
  ThreadPool& pool_;
  const Matrix<float> weights_;  // of the sampled rows
  const MatrixView<const float> inputs_;
  std::vector<int64_t> channel_of_;
  std::vector<float> input_maxima_, weight_maxima_;  // of a channel
  Matrix<float> rounded_weights_, rounded_inputs_;
  Matrix<float> expected_, outputs_;  // [inputs, sampled rows]
};

}  // namespace

SmoothQuantScales SearchSmoothQuantScales(
    absl::Span<const MatrixView<const float>> consumers,
    absl::Span<const float> maxima, MatrixView<const float> inputs,
    absl::Span<const int64_t> channel_of, int64_t channels,
    const SmoothQuantOptions& options, ThreadPool& pool) {
  QEFF_CHECK(!consumers.empty() && inputs.rows() > 0);
  const int64_t cols = consumers[0].cols();
  for (const auto& consumer : consumers) QEFF_CHECK(consumer.cols() == cols);
  QEFF_CHECK(static_cast<int64_t>(maxima.size()) == cols &&
             inputs.cols() == cols);
  QEFF_CHECK(channel_of.empty() ? channels == cols
                                : channel_of.size() == maxima.size());
  return Search(consumers, maxima, inputs, channel_of, channels, options, pool)
      .Run();
}

}  // namespace qeff
