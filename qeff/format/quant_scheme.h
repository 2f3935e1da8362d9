// SPDX-License-Identifier: Apache-2.0
//
// Weight quantization: which of ggml's blocks or codebooks, or, for integers,
// how many bits, how weights share a scale, and the arithmetic from a group of
// weights to scale, zero point and codes. All scalar: qeff/kernels/quantize is
// the fast way and gives the same bits. For the blocks see ggml_codec.h, for
// codebooks codebook_rows.h.
//
//   inverse = 1 / scale                                 (float32, rounded)
//   code    = clamp(round(x * inverse) + zero, 0, 2^bits - 1)
//   value   = (code - zero) * scale                     (float32, rounded)
//
// `round` is to nearest, ties to even. `zero` is the code that stands for 0:
// 2^(bits-1) when symmetric. A scale is rounded to its storage type before
// codes are computed from it, so that the codes fit the scale that is stored.

#ifndef QEFF_FORMAT_QUANT_SCHEME_H_
#define QEFF_FORMAT_QUANT_SCHEME_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "qeff/format/codebook.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

inline constexpr int kMinQuantBits = 2;
inline constexpr int kMaxQuantBits = 8;

// Where the scale of a symmetric group comes from, below 8 bits; with 8 bits
// it is max|x| / 127 for either.
enum class ScaleRule : uint8_t {
  // m / -2^(bits-1), where m is the element of the largest magnitude, the
  // negative one if two are equal. m takes the outermost code exactly; the
  // scale is negative where m is positive. Root-mean-square error on normal
  // weights is 9 % below kAbsMax at 4 bits, 12 % at 3 and 23 % at 2.
  kSignedMax,
  // max|x| / ((2^bits - 1) / 2), always positive: the rule of
  // compressed-tensors.
  kAbsMax,
};

// What a layer's inputs become before products.
enum class InputCodes : uint8_t {
  kNone,      // nothing is said about them
  kPerToken,  // 8 bits, symmetric, with a scale of each token: its largest
              // magnitude / 127
  kStatic,    // 8 bits, symmetric, with one scale that the model holds
};

// Thread-compatible.
struct QuantScheme {
  int bits = 4;
  // Consecutive weights of a row that share a scale; the last group of a row
  // may be shorter. 0: the whole row ("per channel").
  int64_t group_size = 0;
  bool symmetric = true;
  ScaleRule scale_rule = ScaleRule::kSignedMax;
  // Blocks of this type, one of those that ggml_block_params.h names, instead
  // of integers; the members above then say nothing. A scheme of integers is
  // meant wherever nothing is said about blocks.
  absl::optional<GgmlType> ggml = absl::nullopt;
  // Codes stand for values of this table instead of integers. `bits` is then
  // that of the table, group_size too but for nf4, and symmetric is true.
  // scale_rule: kSignedMax is the scale with the least squared error that a
  // search finds, with nf4 of either sign; kAbsMax that of the definition.
  absl::optional<Codebook> codebook = absl::nullopt;
  // Other than kNone with 8 symmetric bits a row only; such weights are stored
  // as signed bytes (quantized_layout.h).
  InputCodes inputs = InputCodes::kNone;

  bool integers() const { return !ggml.has_value() && !codebook.has_value(); }

  friend bool operator==(const QuantScheme& a, const QuantScheme& b) {
    return a.bits == b.bits && a.group_size == b.group_size &&
           a.symmetric == b.symmetric && a.scale_rule == b.scale_rule &&
           a.ggml == b.ggml && a.codebook == b.codebook && a.inputs == b.inputs;
  }
};

// Parses "int8", "int8_g64", "int4", "int4_g128", "int3_g64", ...: 2 to 8 bits
// and groups of 8 to 65536 weights in multiples of 8. The result is symmetric
// with kSignedMax. "w8a8" and "w8a8_static" are "int8" with InputCodes
// kPerToken and kStatic. "q4_0", "q8_0", "q4_k", "q5_k" and "q6_k" are ggml's
// blocks; "nf4", "nf4_g32", ..., "fp8_e4m3", "mxfp4", "mxfp6" and "mxint8"
// codebooks.
// Errors: kInvalidArgument naming `name`.
absl::StatusOr<QuantScheme> ParseQuantScheme(absl::string_view name);

// The inverse of ParseQuantScheme; symmetry and scale rule do not show.
std::string QuantSchemeName(const QuantScheme& scheme);

// Integers of as many bits, in groups as large, as ggml's blocks have: for
// searches that only compare. Other schemes are returned as they are.
QuantScheme IntegersLike(const QuantScheme& scheme);

// "signed_max" and "absmax". Errors: kInvalidArgument.
absl::StatusOr<ScaleRule> ParseScaleRule(absl::string_view name);
absl::string_view ScaleRuleName(ScaleRule rule);

// The type that scales of weights of type `weights` are stored in: F16 for
// F16, else BF16, which has the range of float32. The codes are fitted to the
// rounded scale, so no precision is lost with it.
constexpr DType ScaleDType(DType weights) {
  return weights == DType::kF16 ? DType::kF16 : DType::kBF16;
}

// The same of weights with `scheme`: U8, the exponents of E8M0, where scales
// are powers of two.
inline DType ScaleDType(const QuantScheme& scheme, DType weights) {
  return scheme.codebook.has_value() && FormatOf(*scheme.codebook).e8m0
             ? DType::kU8
             : ScaleDType(weights);
}

// Whether scales may be stored in `dtype`: F16, BF16 or F32.
constexpr bool IsScaleDType(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF32;
}

// Stores `scale`, a value of `dtype` already, at `to` (unaligned), and reads
// it back. Precondition: IsScaleDType(dtype).
inline void StoreScale(float scale, DType dtype, uint8_t* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, &scale, sizeof(scale));
    return;
  }
  const uint16_t bits =
      dtype == DType::kF16 ? FloatToF16(scale) : FloatToBF16(scale);
  std::memcpy(to, &bits, sizeof(bits));
}

inline float LoadScale(DType dtype, const uint8_t* from) {
  if (dtype == DType::kF32) {
    float scale;
    std::memcpy(&scale, from, sizeof(scale));
    return scale;
  }
  uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return dtype == DType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
}

// What the codes of one group are computed with.
struct GroupParams {
  float scale;    // a value of the storage type, not 0
  float inverse;  // 1 / scale
  int zero;       // the code of 0, in [0, 2^bits - 1]
};

// Parameters of a group whose smallest element is `min` and largest is `max`,
// both finite. With range [lo, hi] = [min(min, 0), max(max, 0)]:
//   symmetric: scale by scheme.scale_rule, zero = 2^(bits-1);
//   asymmetric: scale = hi / (2^bits - 1) - lo / (2^bits - 1),
//     zero = clamp(round(-lo / scale), 0, 2^bits - 1).
// A group whose scale rounds to less than 2^-126 (2^-24 in F16) counts as all
// zero: scale 1, zero 2^(bits-1), so that every value is exactly 0. The scale
// is infinite if it overflows the storage type, which cannot happen with
// ScaleDType of the weights' type.
// Source: compressed-tensors, quantization/utils/helpers (kAbsMax,
// asymmetric); ggml's Q4_0 (kSignedMax).
inline GroupParams ComputeGroupParams(const QuantScheme& scheme, float min,
                                      float max, DType scale_dtype) {
  const float lo = std::min(min, 0.0f);
  const float hi = std::max(max, 0.0f);
  const float absmax = std::max(-lo, hi);
  const float steps = static_cast<float>((1 << scheme.bits) - 1);
  float scale;
  if (!scheme.symmetric) {
    scale = hi / steps - lo / steps;  // hi - lo may overflow
  } else if (scheme.bits == 8) {
    scale = absmax / 127.0f;
  } else if (scheme.scale_rule == ScaleRule::kAbsMax) {
    scale = absmax / (0.5f * steps);
  } else {
    // No branch on which of the two is larger: it would be unpredictable.
    scale = std::copysign(absmax, -lo - hi) /
            static_cast<float>(1 << (scheme.bits - 1));
  }
  // Below this a scale counts as zero: its inverse must be finite, and F16
  // has nothing smaller.
  float smallest = 0x1p-126f;
  if (scale_dtype == DType::kBF16) {
    scale = BF16ToFloat(FloatToBF16(scale));
  } else if (scale_dtype == DType::kF16) {
    scale = F16ToFloat(FloatToF16(scale));
    smallest = 0x1p-24f;
  }
  GroupParams params;
  params.scale = std::abs(scale) < smallest ? 1.0f : scale;
  params.inverse = 1.0f / params.scale;
  params.zero = 1 << (scheme.bits - 1);
  if (!scheme.symmetric && params.scale == scale) {
    const float zero = std::nearbyint(-lo / scale);
    params.zero = static_cast<int>(std::min(std::max(zero, 0.0f), steps));
  }
  return params;
}

// The code of `x`. Precondition: x is finite and |x * inverse| < 2^22.
inline uint8_t QuantizeValue(float x, const GroupParams& params, int bits) {
  // In [2^23, 2^24) floats are whole numbers, so the sum rounds x * inverse to
  // nearest even; the base is even, which keeps "even" meaning the same.
  constexpr float kBase = 12582912.0f;  // 1.5 * 2^23
  const float lo = static_cast<float>(-params.zero);
  const float hi = static_cast<float>((1 << bits) - 1 - params.zero);
  float v = x * params.inverse;
  v = v < lo ? lo : v;
  v = v > hi ? hi : v;
  return static_cast<uint8_t>(static_cast<int>((v + kBase) - kBase) +
                              params.zero);
}

// The value of `code`.
inline float DequantizeValue(int code, int zero, float scale) {
  return static_cast<float>(code - zero) * scale;
}

}  // namespace qeff

#endif  // QEFF_FORMAT_QUANT_SCHEME_H_
