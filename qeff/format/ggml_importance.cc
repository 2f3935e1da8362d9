// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/ggml_importance.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Passes of rounding and least squares from one start, and over a block.
constexpr int kFitPasses = 6;
constexpr int kBlockPasses = 4;

// Below this, the scale of a sub-block is 0: F16 has nothing smaller than
// 2^-24, and inverses stay finite.
constexpr float kSmallest = 0x1p-60f;

// Elements with less than this part of the mean weight have no say in where
// the searches start.
constexpr float kLeastWeight = 1e-6f;

float RoundToF16(float x) { return F16ToFloat(FloatToF16(x)); }

float Clamp(float x, float lo, float hi) {
  return std::min(std::max(x, lo), hi);
}

// Elements are summed in eight lanes, then the lanes: a vector for the
// compiler, and the same bits with every one.
constexpr int kLanes = 8;

struct Lanes {
  float at[kLanes] = {};

  float Sum() const {
    return ((at[0] + at[4]) + (at[2] + at[6])) +
           ((at[1] + at[5]) + (at[3] + at[7]));
  }
};

// A sub-block: its elements and what they weigh. Precondition: a whole number
// of lanes.
struct Part {
  const float* x;
  const float* w;
  int size;
  float lo;  // the range of codes
  float hi;
};

// value = scale * code + min.
struct Affine {
  float scale;
  float min;
};

// Rounds |x| < 2^22 to nearest even.
inline float Round(float x) {
  constexpr float kBase = 12582912.0f;  // 1.5 * 2^23
  return (x + kBase) - kBase;
}

inline float CodeOf(const Part& part, float x, float inverse, float min) {
  return Round(Clamp((x - min) * inverse, part.lo, part.hi));
}

// Weighted error of a part whose values are those of `affine`.
float Error(const Part& part, const Affine& affine) {
  const float inverse = affine.scale == 0 ? 0 : 1 / affine.scale;
  Lanes error;
  for (int i = 0; i < part.size; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float x = part.x[i + k];
      const float code = CodeOf(part, x, inverse, affine.min);
      const float diff = affine.scale * code + affine.min - x;
      error.at[k] += part.w[i + k] * (diff * diff);
    }
  }
  return error.Sum();
}

// Sums of a weighted regression of x on codes.
struct Moments {
  float w = 0;
  float l = 0;
  float ll = 0;
  float x = 0;
  float xl = 0;
};

Moments CodeMoments(const Part& part, const Affine& affine) {
  const float inverse = affine.scale == 0 ? 0 : 1 / affine.scale;
  Lanes w, l, ll, x, xl;
  for (int i = 0; i < part.size; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float v = part.x[i + k];
      const float weight = part.w[i + k];
      const float code = CodeOf(part, v, inverse, affine.min);
      w.at[k] += weight;
      l.at[k] += weight * code;
      ll.at[k] += weight * code * code;
      x.at[k] += weight * v;
      xl.at[k] += weight * v * code;
    }
  }
  return {w.Sum(), l.Sum(), ll.Sum(), x.Sum(), xl.Sum()};
}

// Least squares with codes as they are; without minimum where codes are
// signed, and with one of at most 0 where not. `affine` if there is no fit.
Affine Fit(const Part& part, const Affine& affine) {
  const Moments m = CodeMoments(part, affine);
  if (!(m.ll > 0)) return affine;
  const Affine scaled = {m.xl / m.ll, 0};
  const float determinant = m.w * m.ll - m.l * m.l;
  if (part.lo < 0) return scaled;
  if (!(determinant > 1e-6f * m.w * m.ll)) return affine;
  const Affine fit = {(m.w * m.xl - m.x * m.l) / determinant,
                      (m.ll * m.x - m.l * m.xl) / determinant};
  const Affine best = fit.min > 0 ? scaled : fit;
  return best.scale > 0 ? best : affine;
}

// Replaces `best` by where rounding and fitting lead from `start`, if better.
void Refine(const Part& part, Affine start, Affine* best, float* best_error) {
  float error = Error(part, start);
  for (int pass = 0; pass < kFitPasses; ++pass) {
    const Affine fit = Fit(part, start);
    const float fit_error = Error(part, fit);
    if (!(fit_error < error)) break;
    start = fit;
    error = fit_error;
  }
  if (error < *best_error) {
    *best = start;
    *best_error = error;
  }
}

// Scale of a part with signed codes.
Affine SearchSymmetric(const Part& part) {
  float largest = 0;  // by magnitude
  for (int i = 0; i < part.size; ++i) {
    if (part.w[i] < kLeastWeight) continue;
    if (std::fabs(part.x[i]) > std::fabs(largest)) largest = part.x[i];
  }
  Affine best = {0, 0};
  if (std::fabs(largest) < kSmallest) return best;
  float error = Error(part, best);
  for (int step = -8; step <= 16; ++step) {
    const float steps = part.lo + 0.125f * static_cast<float>(step);
    if (steps > -0.5f) break;
    Refine(part, {largest / steps, 0}, &best, &error);
    Refine(part, {largest / (-1 - steps), 0}, &best, &error);
  }
  return best;
}

// Scale and minimum of a part with codes from 0 on.
Affine SearchAffine(const Part& part) {
  float min = 0;
  float max = -std::numeric_limits<float>::infinity();
  for (int i = 0; i < part.size; ++i) {
    if (part.w[i] < kLeastWeight) continue;
    min = std::min(min, part.x[i]);
    max = std::max(max, part.x[i]);
  }
  Affine best = {0, min};
  if (!(max - min > kSmallest)) return best;
  // What is all of one value is its minimum.
  float error = Error(part, best);
  const float step = (max - min) / part.hi;
  for (int low = -1; low <= 3; ++low) {
    for (int high = -1; high <= 3; ++high) {
      const float cut_low = 0.4f * static_cast<float>(low);
      const float cut_high = 0.4f * static_cast<float>(high);
      const float scale = step * (part.hi - cut_low - cut_high) / part.hi;
      Refine(part, {scale, std::min(min + cut_low * step, 0.0f)}, &best,
             &error);
    }
  }
  return best;
}

// A block while its parameters are chosen.
class Block {
 public:
  Block(const GgmlBlockFormat& format, const float* x, const float* weights)
      : format_(format), x_(x), weights_(weights) {}

  GgmlBlockParams Choose();

 private:
  Part PartAt(int s) const {
    const int size = format_.sub_block_elems;
    return {x_ + s * size, weights_ + s * size, size,
            static_cast<float>(format_.min_code),
            static_cast<float>(format_.max_code)};
  }
  Affine Stored(const GgmlBlockParams& params, int s) const {
    return {params.scale(s), -params.offset(s)};
  }
  float BlockError(const GgmlBlockParams& params) const {
    float error = 0;
    for (int s = 0; s < format_.num_sub_blocks(); ++s) {
      error += Error(PartAt(s), Stored(params, s));
    }
    return error;
  }
  void RoundScales(const Affine* found, GgmlBlockParams* params) const;
  void ImproveCodes(GgmlBlockParams* params) const;
  GgmlBlockParams FitBlock(GgmlBlockParams params) const;

  const GgmlBlockFormat& format_;
  const float* x_;
  const float* weights_;
};

// Scale and minimum codes nearest to what each sub-block wants.
void Block::RoundScales(const Affine* found, GgmlBlockParams* params) const {
  float largest = 0;  // by magnitude
  float lowest = 0;
  for (int s = 0; s < format_.num_sub_blocks(); ++s) {
    if (std::fabs(found[s].scale) > std::fabs(largest))
      largest = found[s].scale;
    lowest = std::min(lowest, found[s].min);
  }
  const float scale_steps = format_.has_offsets() ? 63.0f : -128.0f;
  params->d = RoundToF16(largest / scale_steps);
  params->dmin = RoundToF16(-lowest / 63.0f);
  for (int s = 0; s < format_.num_sub_blocks(); ++s) {
    const float scale = params->d == 0 ? 0 : found[s].scale / params->d;
    const float min = params->dmin == 0 ? 0 : -found[s].min / params->dmin;
    params->scale_codes[s] = static_cast<int8_t>(Round(
        format_.has_offsets() ? Clamp(scale, 0, 63) : Clamp(scale, -128, 127)));
    params->min_codes[s] = static_cast<uint8_t>(Round(Clamp(min, 0, 63)));
  }
}

// Moves each sub-block's codes to neighbours while that lowers its error.
void Block::ImproveCodes(GgmlBlockParams* params) const {
  const int lo = format_.has_offsets() ? 0 : -128;
  const int hi = format_.has_offsets() ? 63 : 127;
  const int reach = params->dmin == 0 ? 0 : 1;
  for (int s = 0; s < format_.num_sub_blocks(); ++s) {
    const Part part = PartAt(s);
    const int scale = params->scale_codes[s];
    const int min = params->min_codes[s];
    float best = Error(part, Stored(*params, s));
    GgmlBlockParams trial = *params;
    for (int i = std::max(scale - 1, lo); i <= std::min(scale + 1, hi); ++i) {
      for (int k = std::max(min - reach, 0); k <= std::min(min + reach, 63);
           ++k) {
        if (i == scale && k == min) continue;
        trial.scale_codes[s] = static_cast<int8_t>(i);
        trial.min_codes[s] = static_cast<uint8_t>(k);
        const float error = Error(part, Stored(trial, s));
        if (!(error < best)) continue;
        best = error;
        params->scale_codes[s] = static_cast<int8_t>(i);
        params->min_codes[s] = static_cast<uint8_t>(k);
      }
    }
  }
}

// d and dmin by least squares, x = d (scale code * code) - dmin * minimum code,
// with all codes as they are.
GgmlBlockParams Block::FitBlock(GgmlBlockParams params) const {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
  for (int s = 0; s < format_.num_sub_blocks(); ++s) {
    const Moments m = CodeMoments(PartAt(s), Stored(params, s));
    const double scale = params.scale_codes[s];
    const double min = params.min_codes[s];
    aa += scale * scale * m.ll;
    ab -= scale * min * m.l;
    bb += min * min * m.w;
    ax += scale * m.xl;
    bx -= min * m.x;
  }
  if (!(aa > 0)) return params;
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-9 * aa * bb) {
    params.d =
        RoundToF16(static_cast<float>((bb * ax - ab * bx) / determinant));
    params.dmin =
        RoundToF16(static_cast<float>((aa * bx - ab * ax) / determinant));
  } else {
    params.d = RoundToF16(static_cast<float>((ax - ab * params.dmin) / aa));
  }
  return params;
}

GgmlBlockParams Block::Choose() {
  Affine found[kMaxGgmlSubBlocks];
  for (int s = 0; s < format_.num_sub_blocks(); ++s) {
    found[s] = format_.has_offsets() ? SearchAffine(PartAt(s))
                                     : SearchSymmetric(PartAt(s));
  }
  GgmlBlockParams best;
  if (format_.num_sub_blocks() == 1) {
    best.scale_codes[0] = 1;
    best.d = RoundToF16(found[0].scale);
    return best;
  }
  RoundScales(found, &best);
  ImproveCodes(&best);
  float best_error = BlockError(best);
  for (int pass = 0; pass < kBlockPasses; ++pass) {
    GgmlBlockParams trial = FitBlock(best);
    ImproveCodes(&trial);
    const float error = BlockError(trial);
    if (!(error < best_error)) break;
    best = trial;
    best_error = error;
  }
  return best;
}

GgmlBlockParams ChooseQ8_0(absl::Span<const float> x) {
  float absmax = 0;
  for (const float v : x) absmax = std::max(absmax, std::fabs(v));
  GgmlBlockParams params;
  params.d = RoundToF16(absmax / 127.0f);
  params.scale_codes[0] = 1;
  return params;
}

}  // namespace

GgmlBlockParams ChooseGgmlParams(GgmlType type, absl::Span<const float> x,
                                 absl::Span<const float> importance) {
  const GgmlBlockFormat* format = FindGgmlBlockFormat(type);
  QEFF_CHECK(format != nullptr);
  const size_t elems = static_cast<size_t>(format->block_elems);
  QEFF_CHECK(x.size() == elems && importance.size() == elems);
  QEFF_CHECK(format->has_scale_codes() || type == GgmlType::kQ8_0 ||
             type == GgmlType::kQ4_0);
  if (type == GgmlType::kQ8_0) return ChooseQ8_0(x);
  // In units of the mean, so that sums neither overflow nor vanish.
  double sum = 0;
  for (const float a : importance) sum += a;
  float weights[kMaxGgmlBlockElems];
  for (size_t i = 0; i < elems; ++i) {
    weights[i] = sum > 0 ? static_cast<float>(importance[i] *
                                              static_cast<double>(elems) / sum)
                         : 1.0f;
  }
  return Block(*format, x.data(), weights).Choose();
}

}  // namespace qeff
