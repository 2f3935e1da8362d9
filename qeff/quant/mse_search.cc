// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/mse_search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "qeff/util/check.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

// Scales that are tried together, a lane each: no sum then crosses lanes.
constexpr size_t kLanes = 16;

// In [2^23, 2^24) floats are whole numbers (QuantizeValue).
constexpr float kRound = 12582912.0f;

// With x the weights times a power of two, a their importance:
struct Fits {
  float loss[kLanes];  // sum a (x - value)^2
  float xc[kLanes];    // sum a x c, c = code - zero
  float cc[kLanes];    // sum a c c
};

// `stride`: of `importance`, 0 where all have the same. `lo`, `hi`: of c.
QEFF_VECTOR_CLONES void FitScales(const float* weights, const float* importance,
                                  size_t stride, size_t count, float unit,
                                  const float* scales, float lo, float hi,
                                  Fits* fits) {
  float loss[kLanes] = {}, xc[kLanes] = {}, cc[kLanes] = {};
  float inverse[kLanes], scale[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) {
    scale[lane] = scales[lane] * unit;
    inverse[lane] = (1.0f / scales[lane]) / unit;
  }
  for (size_t i = 0; i < count; ++i) {
    const float x = weights[i] * unit;
    const float a = importance[i * stride];
    const float ax = a * x;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      float c = x * inverse[lane];
      c = c < lo ? lo : c;
      c = c > hi ? hi : c;
      c = (c + kRound) - kRound;
      const float error = x - c * scale[lane];
      loss[lane] += (a * error) * error;
      xc[lane] += ax * c;
      cc[lane] += (a * c) * c;
    }
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    fits->loss[lane] = loss[lane];
    fits->xc[lane] = xc[lane];
    fits->cc[lane] = cc[lane];
  }
}

float Rounded(DType dtype, float scale) {
  uint8_t bytes[sizeof(float)];
  StoreScale(scale, dtype, bytes);
  return LoadScale(dtype, bytes);
}

// The value of `dtype` that is `steps` away from `scale`, one of its values.
float Beside(DType dtype, float scale, int steps) {
  uint8_t bytes[sizeof(float)];
  StoreScale(scale, dtype, bytes);
  if (dtype == DType::kF32) {
    // As coarse as BF16: finer steps change no code.
    uint32_t bits;
    std::memcpy(&bits, bytes, sizeof(bits));
    bits += static_cast<uint32_t>(steps) * 0x10000u;
    std::memcpy(bytes, &bits, sizeof(bits));
  } else {
    uint16_t bits;
    std::memcpy(&bits, bytes, sizeof(bits));
    bits = static_cast<uint16_t>(bits + steps);
    std::memcpy(bytes, &bits, sizeof(bits));
  }
  return LoadScale(dtype, bytes);
}

// What scales of the range are multiplied by: less misses the outermost
// weights, more reaches both ends of a range that is not symmetric.
struct Factors {
  float least, most;
};

Factors FactorsOf(const QuantScheme& scheme) {
  // Beyond these nothing was found on normal and on trained weights.
  const float least[] = {0.45f, 0.6f, 0.7f, 0.8f, 0.88f, 0.88f, 0.88f};
  const float half = static_cast<float>(1 << (scheme.bits - 1));
  const float both_ends = 1.02f * half / (half - 1);
  return {least[scheme.bits - kMinQuantBits],
          scheme.symmetric ? std::min(both_ends, 1.3f) : 1.05f};
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
    const float absmax = std::max(std::abs(*range.first), *range.second);
    // Squares of what is this large are far from both ends of float32.
    unit_ = absmax > 0
                ? std::ldexp(1.0f, std::clamp(-std::ilogb(absmax), -126, 126))
                : 1.0f;
    best_ = plain_ =
        ComputeGroupParams(scheme, *range.first, *range.second, scale_dtype);
    float scales[kLanes];
    std::fill_n(scales, kLanes, plain_.scale);
    best_loss_ = Fit(plain_.zero, scales).loss[0];
  }

  GroupParams Run() {
    if (!scheme_.symmetric) {
      SearchZeros();
    } else {
      TryFactors(plain_.zero, 1);
      if (scheme_.scale_rule == ScaleRule::kSignedMax) {
        TryFactors(plain_.zero, -1);
      }
    }
    SearchBeside();
    return best_;
  }

 private:
  Fits Fit(int zero, const float* scales) const {
    Fits fits;
    static constexpr float kOne = 1;
    const bool equal = importance_.empty();
    FitScales(weights_.data(), equal ? &kOne : importance_.data(),
              equal ? 0 : 1, weights_.size(), unit_, scales,
              static_cast<float>(-zero),
              static_cast<float>((1 << scheme_.bits) - 1 - zero), &fits);
    return fits;
  }

  // Whether it is none that counts as 0 (ComputeGroupParams), and no code's
  // value overflows.
  bool Usable(float scale) const {
    const float smallest = scale_dtype_ == DType::kF16 ? 0x1p-24f : 0x1p-126f;
    const float levels = static_cast<float>(1 << scheme_.bits);
    return std::abs(scale) >= smallest && std::isfinite(scale * levels);
  }

  // Keeps the best of `scales`, and makes them those that are best for the
  // codes that they give.
  void Try(int zero, float* scales) {
    const Fits fits = Fit(zero, scales);
    for (size_t lane = 0; lane < kLanes; ++lane) {
      if (fits.loss[lane] < best_loss_) {
        best_loss_ = fits.loss[lane];
        best_ = {scales[lane], 1.0f / scales[lane], zero};
      }
      const float fitted =
          Rounded(scale_dtype_, fits.xc[lane] / fits.cc[lane] / unit_);
      // Neither another sign nor far off, as when all codes are 0.
      constexpr float kMost = 4.0f;
      const float ratio = fitted / scales[lane];
      if (ratio > 1 / kMost && ratio < kMost && Usable(fitted)) {
        scales[lane] = fitted;
      }
    }
  }

  void TryFactors(int zero, float sign) {
    const Factors factors = FactorsOf(scheme_);
    const float step =
        (factors.most - factors.least) / static_cast<float>(kLanes - 1);
    float scales[kLanes];
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float factor = factors.most - step * static_cast<float>(lane);
      const float scale =
          Rounded(scale_dtype_, sign * std::abs(plain_.scale) * factor);
      scales[lane] = Usable(scale) ? scale : plain_.scale;
    }
    Try(zero, scales);
    Try(zero, scales);
  }

  // Zero points around that of the range, and farther in the direction that
  // pays.
  void SearchZeros() {
    const int top = (1 << scheme_.bits) - 1;
    TryFactors(plain_.zero, 1);
    for (const int step : {-1, 1}) {
      for (int zero = plain_.zero + step; zero >= 0 && zero <= top;
           zero += step) {
        const float before = best_loss_;
        TryFactors(zero, 1);
        if (!(best_loss_ < before)) break;
      }
    }
  }

  void SearchBeside() {
    constexpr int kMostTurns = 4;
    for (int turn = 0; turn < kMostTurns; ++turn) {
      const GroupParams from = best_;
      float scales[kLanes];
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const int steps = static_cast<int>(lane) - static_cast<int>(kLanes / 2);
        const float scale =
            Beside(scale_dtype_, from.scale, steps < 0 ? steps : steps + 1);
        scales[lane] = Usable(scale) ? scale : from.scale;
      }
      Try(from.zero, scales);
      if (best_.scale == from.scale) break;
    }
  }

  const QuantScheme& scheme_;
  const absl::Span<const float> weights_;
  const absl::Span<const float> importance_;
  const DType scale_dtype_;
  float unit_ = 1;
  GroupParams plain_, best_;
  float best_loss_ = 0;
};

}  // namespace

GroupParams LeastErrorParams(const QuantScheme& scheme,
                             absl::Span<const float> weights,
                             absl::Span<const float> importance,
                             DType scale_dtype) {
  QEFF_CHECK(scheme.integers() && !weights.empty() &&
             (importance.empty() || importance.size() == weights.size()));
  return Search(scheme, weights, importance, scale_dtype).Run();
}

}  // namespace qeff
