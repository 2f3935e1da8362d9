// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/codebook_search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "qeff/format/codebook.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/util/check.h"
#include "qeff/util/vector_clones.h"

namespace qeff {
namespace {

using internal_codebook::kNf4Thresholds;
using internal_codebook::kRound;

// Sums are kept apart in as many, which the compiler makes a vector of.
constexpr size_t kLanes = 16;

// sum importance (w - value)^2, and what least squares needs.
struct Fit {
  float loss;
  float wv;  // sum importance w v, v being the table's
  float vv;  // sum importance v v
};

// Of functions that must not stay behind when a caller is compiled for wider
// vectors.
#define QEFF_INLINE __attribute__((always_inline))

// Sums over a group; `round(w / scale)` is a value of the table, `weigh(i)` an
// importance.
template <class Weigh, class Round>
QEFF_INLINE inline Fit SumWith(const float* weights, size_t count, float scale,
                               const Weigh& weigh, const Round& round) {
  float loss[kLanes] = {}, wv[kLanes] = {}, vv[kLanes] = {};
  const float inverse = 1.0f / scale;
  const auto add = [&](size_t lane, size_t i) QEFF_INLINE {
    const float w = weights[i];
    const float a = weigh(i);
    const float v = round(w * inverse);
    const float error = w - v * scale;
    loss[lane] += a * error * error;
    wv[lane] += a * w * v;
    vv[lane] += a * v * v;
  };
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) add(lane, i + lane);
  }
  for (size_t lane = 0; i + lane < count; ++lane) add(lane, i + lane);
  // Halves are added up: a chain of 16 sums would wait for each of them.
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t lane = 0; lane < width; ++lane) {
      loss[lane] += loss[lane + width];
      wv[lane] += wv[lane + width];
      vv[lane] += vv[lane + width];
    }
  }
  return {loss[0], wv[0], vv[0]};
}

// `importance` may be null: all equal.
template <class Round>
QEFF_INLINE inline Fit Sum(const float* weights, const float* importance,
                           size_t count, float scale, const Round& round) {
  if (importance == nullptr) {
    return SumWith(
        weights, count, scale, [](size_t) QEFF_INLINE { return 1.0f; }, round);
  }
  return SumWith(
      weights, count, scale,
      [importance](size_t i) QEFF_INLINE { return importance[i]; }, round);
}

// The last of the values from `kFrom` on whose threshold `v` is above, or
// `value`. Straight-line, and loads before they are needed, so that it becomes
// compares and blends of vectors.
template <int kFrom>
QEFF_INLINE inline float LastAbove(const float* values, float v, float value) {
  if constexpr (kFrom < 16) {
    const float threshold = kNf4Thresholds[kFrom - 1];
    const float next = values[kFrom];
    return LastAbove<kFrom + 1>(values, v, v > threshold ? next : value);
  } else {
    return value;
  }
}

QEFF_VECTOR_CLONES Fit QuantilesFit(const float* values, const float* weights,
                                    const float* importance, size_t count,
                                    float scale) {
  return Sum(weights, importance, count, scale, [values](float v) QEFF_INLINE {
    return LastAbove<1>(values, v, values[0]);
  });
}

// As NearestCode and the table, without the code.
QEFF_VECTOR_CLONES Fit FloatFit(int mantissa_bits, int min_exponent,
                                float largest, const float* weights,
                                const float* importance, size_t count,
                                float scale) {
  const int32_t least = (min_exponent + 127) << 23;
  const int32_t up = (23 - mantissa_bits) << 23;
  return Sum(weights, importance, count, scale, [=](float v) QEFF_INLINE {
    float magnitude = std::abs(v);
    magnitude = magnitude < largest ? magnitude : largest;
    int32_t bits;
    std::memcpy(&bits, &magnitude, sizeof(bits));
    bits &= 0x7F800000;
    bits = (bits > least ? bits : least) + up;
    // 2^23 steps of the value's exponent: sums round to whole ones.
    float base;
    std::memcpy(&base, &bits, sizeof(base));
    return std::copysign((magnitude + base) - base, v);
  });
}

QEFF_VECTOR_CLONES Fit IntegerFit(const float* weights, const float* importance,
                                  size_t count, float scale) {
  return Sum(weights, importance, count, scale, [](float v) QEFF_INLINE {
    float steps = v * 64.0f;
    steps = steps < -127.0f ? -127.0f : steps;
    steps = steps > 127.0f ? 127.0f : steps;
    return ((steps + kRound) - kRound) * (1.0f / 64);
  });
}

QEFF_VECTOR_CLONES float AbsMaxOf(const float* weights, size_t count) {
  // Bits order magnitudes, and NaN above infinity.
  uint32_t most = 0;
  for (size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, weights + i, sizeof(bits));
    bits &= 0x7FFFFFFF;
    most = bits > most ? bits : most;
  }
  float value;
  std::memcpy(&value, &most, sizeof(value));
  return value;
}

class Search {
 public:
  Search(const QuantScheme& scheme, absl::Span<const float> weights,
         const float* importance, DType scale_dtype)
      : format_(FormatOf(*scheme.codebook)),
        signed_(scheme.scale_rule == ScaleRule::kSignedMax),
        weights_(weights),
        importance_(importance),
        scale_dtype_(scale_dtype),
        best_(CodebookScale(scheme, AbsMax(weights), scale_dtype)),
        best_loss_(Try(best_).loss) {}

  float Run() {
    const float first = best_;
    if (format_.e8m0) {
      for (const float factor : {2.0f, 0.5f}) {
        const float scale = first * factor;
        if (scale >= 0x1p-127f && scale <= 0x1p127f) Consider(scale);
      }
    } else if (format_.kind == CodebookKind::kFloat) {
      // Twice the scale has the same values, but for the ends.
      constexpr int kSteps = 16;
      for (int i = 1; i < kSteps; ++i) {
        Consider(RoundedScale(first * (1 + float(i) / kSteps), scale_dtype_));
      }
    } else {
      // From stretched a little to missing the outermost weights. For rounding,
      // which is to take seconds, a few: 1.3 % more error in a third of the
      // time.
      constexpr float kFine[] = {1.05f, 1.0f,  0.95f, 0.9f,  0.85f,
                                 0.8f,  0.75f, 0.7f,  0.65f, 0.6f};
      constexpr float kCoarse[] = {1.0f, 0.9f, 0.8f};
      for (const float factor : importance_ == nullptr
                                    ? absl::MakeConstSpan(kCoarse)
                                    : absl::MakeConstSpan(kFine)) {
        Improve(first * factor);
        if (signed_) Improve(-first * factor);
      }
    }
    return best_;
  }

 private:
  Fit Consider(float scale) {
    const Fit fit = Try(scale);
    if (fit.loss < best_loss_) {
      best_ = scale;
      best_loss_ = fit.loss;
    }
    return fit;
  }

  // Considers a scale, and what least squares makes of its codes.
  void Improve(float scale) {
    scale = RoundedScale(scale, scale_dtype_);
    const Fit fit = Consider(scale);
    if (!(fit.vv > 0)) return;
    const float fitted = RoundedScale(fit.wv / fit.vv, scale_dtype_);
    // Neither another sign nor a scale that counts as 0.
    constexpr float kMost = 4.0f;
    const float ratio = fitted / scale;
    if (ratio > 1 / kMost && ratio < kMost) Consider(fitted);
  }

  Fit Try(float scale) const {
    switch (format_.kind) {
      case CodebookKind::kQuantiles:
        return QuantilesFit(format_.values, weights_.data(), importance_,
                            weights_.size(), scale);
      case CodebookKind::kFloat:
        return FloatFit(format_.mantissa_bits, format_.min_exponent,
                        format_.largest, weights_.data(), importance_,
                        weights_.size(), scale);
      default:
        return IntegerFit(weights_.data(), importance_, weights_.size(), scale);
    }
  }

  const CodebookFormat& format_;
  const bool signed_;
  const absl::Span<const float> weights_;
  const float* const importance_;
  const DType scale_dtype_;
  float best_;
  float best_loss_;
};

}  // namespace

float AbsMax(absl::Span<const float> weights) {
  return AbsMaxOf(weights.data(), weights.size());
}

float SearchCodebookScale(const QuantScheme& scheme,
                          absl::Span<const float> weights,
                          absl::Span<const float> importance,
                          DType scale_dtype) {
  QEFF_CHECK(!weights.empty());
  QEFF_CHECK(importance.empty() || importance.size() == weights.size());
  return Search(scheme, weights,
                importance.empty() ? nullptr : importance.data(), scale_dtype)
      .Run();
}

float RoundingScale(const QuantScheme& scheme, absl::Span<const float> weights,
                    DType scale_dtype) {
  return scheme.scale_rule == ScaleRule::kAbsMax
             ? CodebookScale(scheme, AbsMax(weights), scale_dtype)
             : SearchCodebookScale(scheme, weights, {}, scale_dtype);
}

void CodebookCodes(const QuantScheme& scheme, absl::Span<const float> weights,
                   float scale, absl::Span<uint8_t> codes) {
  QEFF_CHECK(weights.size() == codes.size());
  const CodebookFormat& format = FormatOf(*scheme.codebook);
  const float inverse = 1.0f / scale;
  for (size_t i = 0; i < weights.size(); ++i) {
    codes[i] = NearestCode(format, weights[i] * inverse);
  }
}

void RoundCodebookRow(const QuantScheme& scheme, absl::Span<const float> row,
                      DType scale_dtype, absl::Span<uint8_t> codes,
                      absl::Span<uint8_t> scales) {
  QEFF_CHECK(row.size() == codes.size());
  const size_t group_elems = scheme.group_size == 0
                                 ? row.size()
                                 : static_cast<size_t>(scheme.group_size);
  const size_t scale_bytes = DTypeBytes(scale_dtype);
  uint8_t* to = scales.data();
  for (size_t begin = 0; begin < row.size(); begin += group_elems) {
    const absl::Span<const float> group = row.subspan(begin, group_elems);
    const float scale = RoundingScale(scheme, group, scale_dtype);
    StoreCodebookScale(scale, scale_dtype, to);
    to += scale_bytes;
    CodebookCodes(scheme, group, scale, codes.subspan(begin, group.size()));
  }
  QEFF_CHECK(to == scales.data() + scales.size());
}

}  // namespace qeff
