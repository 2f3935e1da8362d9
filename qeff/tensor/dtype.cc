// SPDX-License-Identifier: Apache-2.0

#include "qeff/tensor/dtype.h"

#include <cmath>
#include <limits>

namespace qeff {
namespace {

struct NamedDType {
  DType dtype;
  absl::string_view name;
};

constexpr NamedDType kNames[] = {
    {DType::kF32, "F32"},        {DType::kF16, "F16"},
    {DType::kBF16, "BF16"},      {DType::kF64, "F64"},
    {DType::kI8, "I8"},          {DType::kU8, "U8"},
    {DType::kI16, "I16"},        {DType::kI32, "I32"},
    {DType::kI64, "I64"},        {DType::kBool, "BOOL"},
    {DType::kF8E4M3, "F8_E4M3"}, {DType::kF8E5M2, "F8_E5M2"},
};

// Value of a float with `mantissa_bits` and bias `bias`, without its specials.
float SmallFloat(uint32_t sign, int exponent, uint32_t mantissa,
                 int mantissa_bits, int bias) {
  const float magnitude =
      exponent == 0
          ? std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissa_bits)
          : std::ldexp(static_cast<float>(mantissa | (1u << mantissa_bits)),
                       exponent - bias - mantissa_bits);
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace

absl::string_view DTypeName(DType dtype) {
  for (const NamedDType& entry : kNames) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "?";
}

absl::optional<DType> DTypeFromName(absl::string_view name) {
  for (const NamedDType& entry : kNames) {
    if (entry.name == name) return entry.dtype;
  }
  return absl::nullopt;
}

float F16ToFloat(uint16_t bits) {
  const uint32_t sign = bits >> 15;
  const int exponent = (bits >> 10) & 0x1F;
  const uint32_t mantissa = bits & 0x3FF;
  if (exponent == 0x1F) {
    const uint32_t wide = (sign << 31) | 0x7F800000u | (mantissa << 13);
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
  }
  return SmallFloat(sign, exponent, mantissa, 10, 15);
}

uint16_t FloatToF16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {
    return static_cast<uint16_t>(sign | 0x7E00u);
  }
  if (magnitude >= 0x477FF000u) {  // 65520, the first value that rounds up
    return static_cast<uint16_t>(sign | 0x7C00u);
  }
  if (magnitude >= 0x38800000u) {  // 2^-14, the smallest normal value
    const uint32_t rebased = magnitude - 0x38000000u;
    return static_cast<uint16_t>(
        sign | ((rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13));
  }
  // Subnormal: a multiple of 2^-24; nearbyint rounds ties to even.
  float absolute;
  std::memcpy(&absolute, &magnitude, sizeof(absolute));
  return static_cast<uint16_t>(
      sign | static_cast<uint32_t>(std::nearbyint(absolute * 16777216.0f)));
}

float F8E4M3ToFloat(uint8_t bits) {
  if ((bits & 0x7F) == 0x7F) return std::numeric_limits<float>::quiet_NaN();
  return SmallFloat(bits >> 7, (bits >> 3) & 0xF, bits & 7, 3, 7);
}

float F8E5M2ToFloat(uint8_t bits) {
  // The upper byte of a binary16.
  return F16ToFloat(static_cast<uint16_t>(bits << 8));
}

}  // namespace qeff
