// SPDX-License-Identifier: Apache-2.0
//
// Element types of tensors, and scalar conversions between the floating ones.
// Kernels have vector versions (qeff/kernels); these define what they compute.

#ifndef QEFF_TENSOR_DTYPE_H_
#define QEFF_TENSOR_DTYPE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace qeff {

// The element types that qeff reads and writes, little-endian in memory.
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kU8,
  kI16,
  kI32,
  kI64,
  kBool,
  kF8E4M3,
  kF8E5M2,
};

// Size of one element in bytes.
constexpr size_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kI16:
      return 2;
    default:
      return 1;
  }
}

// The name that safetensors headers use, such as "BF16" or "F8_E4M3".
absl::string_view DTypeName(DType dtype);

// The inverse of DTypeName; nullopt for a name that is not supported.
absl::optional<DType> DTypeFromName(absl::string_view name);

// Whether values are real numbers (F64, F32, F16, BF16 and the F8 types).
constexpr bool IsFloating(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 ||
         dtype == DType::kBF16 || dtype == DType::kF64 ||
         dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2;
}

// bfloat16: the upper half of a float32. Exact.
inline float BF16ToFloat(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// Rounds to nearest, ties to even; NaN stays NaN (quiet).
inline uint16_t FloatToBF16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    return static_cast<uint16_t>((bits >> 16) | 0x40);
  }
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// IEEE 754 binary16. Exact, subnormals included.
float F16ToFloat(uint16_t bits);

// Rounds to nearest, ties to even; above 65519.99 becomes infinity.
uint16_t FloatToF16(float value);

// OCP 8-bit floats: E4M3 (bias 7, no infinity, NaN = 0x7F and 0xFF) and E5M2
// (bias 15, IEEE-like). Source: OCP 8-bit Floating Point Specification 1.0.
float F8E4M3ToFloat(uint8_t bits);
float F8E5M2ToFloat(uint8_t bits);

}  // namespace qeff

#endif  // QEFF_TENSOR_DTYPE_H_
