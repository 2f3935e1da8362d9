// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/codebook.h"

#include <cstddef>
#include <limits>

namespace qeff {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

constexpr float kNf4Values[16] = {-1.0f,
                                  -0.6961928009986877f,
                                  -0.5250730514526367f,
                                  -0.39491748809814453f,
                                  -0.28444138169288635f,
                                  -0.18477343022823334f,
                                  -0.09105003625154495f,
                                  0.0f,
                                  0.07958029955625534f,
                                  0.16093020141124725f,
                                  0.24611230194568634f,
                                  0.33791524171829224f,
                                  0.44070982933044434f,
                                  0.5626170039176941f,
                                  0.7229568362236023f,
                                  1.0f};

constexpr float Midpoint(int i) {
  return static_cast<float>((static_cast<double>(kNf4Values[i]) +
                             static_cast<double>(kNf4Values[i + 1])) /
                            2);
}

constexpr float Power(int exponent) {
  float value = 1;
  for (; exponent > 0; --exponent) value *= 2;
  for (; exponent < 0; ++exponent) value /= 2;
  return value;
}

constexpr void ClearValues(CodebookFormat* format) {
  for (float& value : format->values) value = kNan;
}

// Half a step beyond the largest; the slack is for rounding in float32.
constexpr float Saturation(float largest, float step) {
  return largest + 0.501f * step;
}

constexpr CodebookFormat Quantiles() {
  CodebookFormat format = {};
  format.codebook = Codebook::kNf4;
  format.name = "nf4";
  format.kind = CodebookKind::kQuantiles;
  format.bits = 4;
  format.group_size = 64;
  format.largest = 1;
  format.saturation = Saturation(1, 1 - kNf4Values[14]);
  ClearValues(&format);
  for (int i = 0; i < 16; ++i) format.values[i] = kNf4Values[i];
  return format;
}

// `codes`: of values that are not negative.
constexpr CodebookFormat Float(Codebook codebook, absl::string_view name,
                               int bits, int mantissa_bits, int min_exponent,
                               int codes, int64_t group_size, bool e8m0) {
  CodebookFormat format = {};
  format.codebook = codebook;
  format.name = name;
  format.kind = CodebookKind::kFloat;
  format.bits = bits;
  format.group_size = group_size;
  format.e8m0 = e8m0;
  format.mantissa_bits = mantissa_bits;
  format.min_exponent = min_exponent;
  ClearValues(&format);
  const int mantissas = 1 << mantissa_bits;
  for (int code = 0; code < codes; ++code) {
    const int exponent = code / mantissas;
    const int steps = code % mantissas + (exponent == 0 ? 0 : mantissas);
    const float value =
        static_cast<float>(steps) * Power(min_exponent - mantissa_bits +
                                          (exponent == 0 ? 0 : exponent - 1));
    format.values[code] = value;
    format.values[code + (1 << (bits - 1))] = -value;
  }
  format.largest = format.values[codes - 1];
  format.max_exponent = min_exponent + (codes - 1) / mantissas - 1;
  format.saturation =
      Saturation(format.largest, Power(format.max_exponent - mantissa_bits));
  return format;
}

constexpr CodebookFormat Integers() {
  CodebookFormat format = {};
  format.codebook = Codebook::kMxint8;
  format.name = "mxint8";
  format.kind = CodebookKind::kInteger;
  format.bits = 8;
  format.group_size = 32;
  format.e8m0 = true;
  format.largest = 127.0f / 64;
  format.saturation = Saturation(format.largest, 1.0f / 64);
  for (int code = 0; code < 256; ++code) {
    format.values[code] =
        static_cast<float>(code < 128 ? code : code - 256) / 64;
  }
  return format;
}

// In the order of Codebook.
constexpr CodebookFormat kFormats[] = {
    Quantiles(),
    // Exponent and mantissa of all ones are NaN.
    Float(Codebook::kF8E4M3, "fp8_e4m3", 8, 3, -6, 127, 0, false),
    Float(Codebook::kMxfp4, "mxfp4", 4, 1, 0, 8, 32, true),
    Float(Codebook::kMxfp6, "mxfp6", 6, 3, 0, 32, 32, true), Integers()};

}  // namespace

namespace internal_codebook {

const float kNf4Thresholds[15] = {
    Midpoint(0),  Midpoint(1),  Midpoint(2),  Midpoint(3),  Midpoint(4),
    Midpoint(5),  Midpoint(6),  Midpoint(7),  Midpoint(8),  Midpoint(9),
    Midpoint(10), Midpoint(11), Midpoint(12), Midpoint(13), Midpoint(14)};

}  // namespace internal_codebook

const CodebookFormat& FormatOf(Codebook codebook) {
  return kFormats[static_cast<size_t>(codebook)];
}

const CodebookFormat* FindCodebook(absl::string_view name) {
  for (const CodebookFormat& format : kFormats) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

}  // namespace qeff
