// SPDX-License-Identifier: Apache-2.0
//
// Weights whose codes stand for the values of a table, times the scale of
// their group. For rows of them see codebook_rows.h.
//
//   value = table[code] * scale                      (float32, rounded)
//
//   name      bits  group    scale      table
//   nf4          4  64, any  F16, BF16  16 quantiles of the normal distribution
//   fp8_e4m3     8  row      F16, BF16  E4M3: 4 bits of exponent, 3 of mantissa
//   mxfp4        4  32       E8M0       E2M1: 0, .5, 1, 1.5, 2, 3, 4, 6
//   mxfp6        6  32       E8M0       E2M3: 0, .125, ... 7, 7.5
//   mxint8       8  32       E8M0       k / 64, k a signed byte
//
// Codes of floats are sign, exponent and mantissa from the highest bit on; nf4
// counts its values from the lowest; mxint8 is in two's complement.
//
// Source: OCP Microscaling Formats (MX) Specification 1.0; OCP 8-bit Floating
// Point Specification 1.0; Dettmers et al., "QLoRA", arXiv 2305.14314, appendix
// E (nf4).

#ifndef QEFF_FORMAT_CODEBOOK_H_
#define QEFF_FORMAT_CODEBOOK_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"

namespace qeff {

enum class Codebook : uint8_t { kNf4, kF8E4M3, kMxfp4, kMxfp6, kMxint8 };

// How the nearest value of a table is found.
enum class CodebookKind : uint8_t { kQuantiles, kFloat, kInteger };

struct CodebookFormat {
  Codebook codebook;
  absl::string_view name;
  CodebookKind kind;
  int bits;
  int64_t group_size;  // 0: the whole row
  bool e8m0;           // the scale is a power of two, stored as its exponent
  // Of kFloat: bits of mantissa, and the exponent of the least normal value.
  int mantissa_bits;
  int min_exponent;
  float largest;     // value; the least is -largest but for mxint8's -2
  int max_exponent;  // floor(log2(largest))
  // Beyond this, of either sign, a value is more than half a step outside.
  float saturation;
  float values[256];  // NaN where a code has no value
};

// Thread-safe, as all here.
const CodebookFormat& FormatOf(Codebook codebook);

// The format of that name, or null.
const CodebookFormat* FindCodebook(absl::string_view name);

namespace internal_codebook {

// In [2^23, 2^24) floats are whole numbers: adding and subtracting this rounds
// to nearest, ties to even.
inline constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

inline float PowerOfTwo(int exponent) {  // -126 to 127
  const uint32_t bits = static_cast<uint32_t>(exponent + 127) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The exponent of |v| in a format: that of its value, at least the smallest.
inline int ExponentOf(const CodebookFormat& format, float magnitude) {
  uint32_t bits;
  std::memcpy(&bits, &magnitude, sizeof(bits));
  return std::max(static_cast<int>(bits >> 23) - 127, format.min_exponent);
}

// Between the values i and i + 1 of nf4.
extern const float kNf4Thresholds[15];

}  // namespace internal_codebook

// The code of the value that is nearest to `v`, clamped to the outermost; ties
// go to the even code, in nf4 to the lower value. mxint8's -2 is never chosen.
// Precondition: v is not NaN.
inline uint8_t NearestCode(const CodebookFormat& format, float v) {
  using internal_codebook::kRound;
  if (format.kind == CodebookKind::kQuantiles) {
    int code = 0;
    for (const float threshold : internal_codebook::kNf4Thresholds) {
      code += v > threshold;
    }
    return static_cast<uint8_t>(code);
  }
  if (format.kind == CodebookKind::kInteger) {
    const float steps = std::min(std::max(v * 64.0f, -127.0f), 127.0f);
    return static_cast<uint8_t>(static_cast<int>((steps + kRound) - kRound));
  }
  const float magnitude = std::min(std::abs(v), format.largest);
  const int exponent = internal_codebook::ExponentOf(format, magnitude);
  const float steps = magnitude * internal_codebook::PowerOfTwo(
                                      format.mantissa_bits - exponent);
  // Steps that reach the next exponent carry into its bits.
  const int code = static_cast<int>((steps + kRound) - kRound) +
                   ((exponent - format.min_exponent) << format.mantissa_bits);
  return static_cast<uint8_t>(code |
                              (std::signbit(v) ? 1 << (format.bits - 1) : 0));
}

// 2^(bits - 127), NaN for 255.
inline float E8M0ToFloat(uint8_t bits) {
  // 2^-127 is subnormal.
  const uint32_t wide = bits == 0     ? 0x00400000u
                        : bits == 255 ? 0x7FC00000u
                                      : static_cast<uint32_t>(bits) << 23;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// The inverse, for powers of two from 2^-127 to 2^127.
inline uint8_t FloatToE8M0(float scale) {
  uint32_t bits;
  std::memcpy(&bits, &scale, sizeof(bits));
  return static_cast<uint8_t>(bits >> 23);
}

}  // namespace qeff

#endif  // QEFF_FORMAT_CODEBOOK_H_
