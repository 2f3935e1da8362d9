// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/group_search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/util/check.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

// Sums are kept apart in as many, which the compiler makes a vector of.
constexpr size_t kLanes = 16;

// In [2^23, 2^24) floats are whole numbers (QuantizeValue).
constexpr float kRound = 12582912.0f;

// sum importance (w - value)^2, and what least squares needs.
struct Fit {
  float loss = 0;
  float wc = 0;  // sum importance w c, c = code - zero
  float cc = 0;  // sum importance c c
};

QEFF_VECTOR_CLONES Fit FitOf(const float* weights, const float* importance,
                             size_t count, const GroupParams& params,
                             int bits) {
  float loss[kLanes] = {}, wc[kLanes] = {}, cc[kLanes] = {};
  const float scale = params.scale, inverse = params.inverse;
  const float lo = static_cast<float>(-params.zero);
  const float hi = static_cast<float>((1 << bits) - 1 - params.zero);
  const auto add = [&](size_t lane, float w, float a) {
    float c = w * inverse;
    c = c < lo ? lo : c;
    c = c > hi ? hi : c;
    c = (c + kRound) - kRound;
    const float error = w - c * scale;
    loss[lane] += a * error * error;
    wc[lane] += a * w * c;
    cc[lane] += a * c * c;
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      add(lane, weights[i + lane], importance[i + lane]);
    }
  }
  for (size_t lane = 0; i + lane < count; ++lane) {
    add(lane, weights[i + lane], importance[i + lane]);
  }
  Fit fit;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    fit.loss += loss[lane];
    fit.wc += wc[lane];
    fit.cc += cc[lane];
  }
  return fit;
}

class Search {
 public:
  Search(const QuantScheme& scheme, absl::Span<const float> weights,
         absl::Span<const float> importance, DType scale_dtype)
      : scheme_(scheme),
        weights_(weights),
        importance_(importance),
        scale_dtype_(scale_dtype) {
    const auto range = std::minmax_element(weights.begin(), weights.end());
    min_ = *range.first;
    max_ = *range.second;
    best_ = ComputeGroupParams(scheme, min_, max_, scale_dtype);
    best_loss_ = Try(best_).loss;
  }

  GroupParams Run() {
    // Fewer codes leave more to gain by missing the outermost weights.
    const int steps = scheme_.bits <= 2 ? 26 : scheme_.bits <= 4 ? 18 : 10;
    constexpr float kStep = 0.025f, kFirst = 1.05f;
    for (int i = 0; i < steps; ++i) {
      const float factor = kFirst - kStep * static_cast<float>(i);
      if (scheme_.symmetric) {
        TrySymmetric(factor);
      } else {
        Consider(ComputeGroupParams(scheme_, min_ * factor, max_ * factor,
                                    scale_dtype_));
      }
    }
    return best_;
  }

 private:
  void TrySymmetric(float factor) {
    const float absmax = std::max(-std::min(min_, 0.0f), std::max(max_, 0.0f));
    if (scheme_.scale_rule == ScaleRule::kAbsMax) {
      Consider(ComputeGroupParams(scheme_, -absmax * factor, absmax * factor,
                                  scale_dtype_));
      return;
    }
    // The element of the larger magnitude decides about the sign.
    Consider(ComputeGroupParams(scheme_, -absmax * factor, 0, scale_dtype_));
    Consider(ComputeGroupParams(scheme_, 0, absmax * factor, scale_dtype_));
  }

  // Keeps `params`, or what least squares makes of its codes, if better.
  void Consider(const GroupParams& params) {
    const Fit fit = Try(params);
    Keep(params, fit.loss);
    if (!(fit.cc > 0)) return;
    GroupParams fitted = params;
    fitted.scale = Rounded(fit.wc / fit.cc);
    // Neither another sign nor a scale that counts as 0.
    constexpr float kMost = 4.0f;
    const float ratio = fitted.scale / params.scale;
    if (!(ratio > 1 / kMost && ratio < kMost)) return;
    fitted.inverse = 1.0f / fitted.scale;
    Keep(fitted, Try(fitted).loss);
  }

  void Keep(const GroupParams& params, float loss) {
    if (!(loss < best_loss_)) return;
    best_ = params;
    best_loss_ = loss;
  }

  float Rounded(float scale) const {
    switch (scale_dtype_) {
      case DType::kBF16:
        return BF16ToFloat(FloatToBF16(scale));
      case DType::kF16:
        return F16ToFloat(FloatToF16(scale));
      default:
        return scale;
    }
  }

  Fit Try(const GroupParams& params) const {
    return FitOf(weights_.data(), importance_.data(), weights_.size(), params,
                 scheme_.bits);
  }

  const QuantScheme& scheme_;
  const absl::Span<const float> weights_;
  const absl::Span<const float> importance_;
  const DType scale_dtype_;
  float min_ = 0, max_ = 0;
  GroupParams best_;
  float best_loss_ = 0;
};

}  // namespace

GroupParams SearchGroupParams(const QuantScheme& scheme,
                              absl::Span<const float> weights,
                              absl::Span<const float> importance,
                              DType scale_dtype) {
  QEFF_CHECK(weights.size() == importance.size() && !weights.empty());
  Search search(scheme, weights, importance, scale_dtype);
  if (scheme.bits == 8) {
    const auto range = std::minmax_element(weights.begin(), weights.end());
    return ComputeGroupParams(scheme, *range.first, *range.second, scale_dtype);
  }
  return search.Run();
}

}  // namespace qeff
