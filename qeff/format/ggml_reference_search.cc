// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/ggml_reference_search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// A sub-block of Q6_K below this counts as zero.
constexpr float kSmallest = 1e-15f;

float RoundToF16(float x) { return F16ToFloat(FloatToF16(x)); }

// The nearest integer in [lo, hi], ties to even; lo for NaN.
int Nearest(float x, float lo, float hi) {
  return static_cast<int>(std::nearbyint(x > lo ? std::min(x, hi) : lo));
}

// Every sum below adds in the order of the elements, in float32, as ggml does.

// Codes of x at scale 1 / inverse, and how well scaling them fits x.
struct SymmetricFit {
  float sum_xl = 0;
  float sum_ll = 0;

  SymmetricFit(absl::Span<const float> x, float inverse) {
    for (const float v : x) {
      const float l = static_cast<float>(Nearest(v * inverse, -32, 31));
      const float w = v * v;
      sum_xl += w * v * l;
      sum_ll += w * l * l;
    }
  }
};

// Scale of a sub-block of Q6_K.
float SearchScale(absl::Span<const float> x, absl::Span<int8_t> codes) {
  float largest = 0;  // by magnitude, the first of several
  for (const float v : x) {
    if (std::fabs(v) > std::fabs(largest)) largest = v;
  }
  if (std::fabs(largest) < kSmallest) {
    std::fill(codes.begin(), codes.end(), int8_t{-32});
    return 0;
  }
  float inverse = -32 / largest;
  const SymmetricFit first(x, inverse);
  float scale = first.sum_ll != 0 ? first.sum_xl / first.sum_ll : 0;
  float best = scale * first.sum_xl;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float candidate = -(32 + 0.1f * static_cast<float>(step)) / largest;
    const SymmetricFit fit(x, candidate);
    if (fit.sum_ll > 0 && fit.sum_xl * fit.sum_xl > best * fit.sum_ll) {
      scale = fit.sum_xl / fit.sum_ll;
      best = scale * fit.sum_xl;
      inverse = candidate;
    }
  }
  for (size_t i = 0; i < x.size(); ++i) {
    codes[i] = static_cast<int8_t>(Nearest(x[i] * inverse, -32, 31));
  }
  return scale;
}

GgmlBlockParams ChooseQ6K(absl::Span<const float> x, absl::Span<int8_t> codes) {
  float scales[16];
  float largest = 0;  // by magnitude
  for (size_t s = 0; s < 16; ++s) {
    scales[s] = SearchScale(x.subspan(16 * s, 16), codes.subspan(16 * s, 16));
    if (std::fabs(scales[s]) > std::fabs(largest)) largest = scales[s];
  }
  GgmlBlockParams params;
  if (std::fabs(largest) < kSmallest) {
    std::fill(codes.begin(), codes.end(), int8_t{-32});
    return params;
  }
  const float inverse = -128.0f / largest;
  params.d = RoundToF16(1 / inverse);
  for (int s = 0; s < 16; ++s) {
    params.scale_codes[s] =
        static_cast<int8_t>(Nearest(inverse * scales[s], -128, 127));
  }
  return params;
}

// What the scale-and-minimum search of Q4_K and Q5_K depends on.
struct AffineSearch {
  float max_code;
  float first;  // candidates have max_code + first + 0.1 k steps, k = 0 .. last
  int last;
};

struct Affine {
  float scale;
  float min;  // <= 0
};

// Least squares of x against codes, weighted.
struct AffineSums {
  float l = 0;
  float ll = 0;
  float xl = 0;
};

float AffineError(absl::Span<const float> x, const float* weights,
                  const int8_t* codes, const Affine& affine) {
  float error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float diff =
        affine.scale * static_cast<float>(codes[i]) + affine.min - x[i];
    error += weights[i] * (diff * diff);
  }
  return error;
}

// Codes of x with `min` as code 0, and their sums.
AffineSums RoundAffine(absl::Span<const float> x, const float* weights,
                       float min, float inverse, float max_code,
                       int8_t* codes) {
  AffineSums sums;
  for (size_t i = 0; i < x.size(); ++i) {
    const int code = Nearest(inverse * (x[i] - min), 0, max_code);
    codes[i] = static_cast<int8_t>(code);
    const float l = static_cast<float>(code);
    sums.l += weights[i] * l;
    sums.ll += weights[i] * l * l;
    sums.xl += weights[i] * l * x[i];
  }
  return sums;
}

// Writes the weights of `x` to `weights`.
void WeighElements(absl::Span<const float> x, float* weights) {
  float square_sum = 0;
  for (const float v : x) square_sum += v * v;
  const float root_mean = std::sqrt(square_sum / static_cast<float>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    weights[i] = root_mean + std::fabs(x[i]);
  }
}

Affine SearchAffine(const AffineSearch& search, absl::Span<const float> x,
                    absl::Span<int8_t> codes) {
  const size_t n = x.size();
  float weights[32];
  WeighElements(x, weights);
  float sum_w = 0;
  float sum_x = 0;
  for (size_t i = 0; i < n; ++i) {
    sum_w += weights[i];
    sum_x += weights[i] * x[i];
  }
  const float min = std::min(*std::min_element(x.begin(), x.end()), 0.0f);
  const float max = *std::max_element(x.begin(), x.end());
  std::fill(codes.begin(), codes.end(), int8_t{0});
  if (max == min) return {0, min};
  const float inverse = search.max_code / (max - min);
  Affine best = {1 / inverse, min};
  RoundAffine(x, weights, min, inverse, search.max_code, codes.data());
  float best_error = AffineError(x, weights, codes.data(), best);
  for (int step = 0; step <= search.last; ++step) {
    // The minimum is that of the best fit so far, as in ggml, not of x.
    const float candidate =
        (search.first + 0.1f * static_cast<float>(step) + search.max_code) /
        (max - best.min);
    int8_t trial[32];
    const AffineSums sums =
        RoundAffine(x, weights, best.min, candidate, search.max_code, trial);
    const float determinant = sum_w * sums.ll - sums.l * sums.l;
    if (!(determinant > 0)) continue;
    Affine fit = {(sum_w * sums.xl - sum_x * sums.l) / determinant,
                  (sums.ll * sum_x - sums.l * sums.xl) / determinant};
    if (fit.min > 0) fit = {sums.xl / sums.ll, 0};
    const float error = AffineError(x, weights, trial, fit);
    if (error < best_error) {
      best_error = error;
      best = fit;
      std::copy_n(trial, n, codes.begin());
    }
  }
  return best;
}

GgmlBlockParams ChooseAffine(const AffineSearch& search,
                             absl::Span<const float> x,
                             absl::Span<int8_t> codes) {
  Affine found[8];
  float max_scale = 0;
  float max_offset = 0;
  for (size_t s = 0; s < 8; ++s) {
    found[s] =
        SearchAffine(search, x.subspan(32 * s, 32), codes.subspan(32 * s, 32));
    max_scale = std::max(max_scale, found[s].scale);
    max_offset = std::max(max_offset, -found[s].min);
  }
  const float inverse_scale = max_scale > 0 ? 63.0f / max_scale : 0;
  const float inverse_offset = max_offset > 0 ? 63.0f / max_offset : 0;
  GgmlBlockParams params;
  params.d = RoundToF16(max_scale / 63.0f);
  params.dmin = RoundToF16(max_offset / 63.0f);
  for (int s = 0; s < 8; ++s) {
    params.scale_codes[s] =
        static_cast<int8_t>(Nearest(inverse_scale * found[s].scale, 0, 63));
    params.min_codes[s] =
        static_cast<uint8_t>(Nearest(inverse_offset * -found[s].min, 0, 63));
  }
  return params;
}

}  // namespace

GgmlBlockParams ChooseReferenceParams(GgmlType type, absl::Span<const float> x,
                                      absl::Span<int8_t> codes) {
  QEFF_CHECK(x.size() == kMaxGgmlBlockElems && codes.size() == x.size());
  switch (type) {
    case GgmlType::kQ4_K:
      return ChooseAffine({15, -1.0f, 20}, x, codes);
    case GgmlType::kQ5_K:
      return ChooseAffine({31, -0.5f, 15}, x, codes);
    case GgmlType::kQ6_K:
      return ChooseQ6K(x, codes);
    default:
      QEFF_CHECK(false && "no type with blocks of 256");
  }
}

}  // namespace qeff
