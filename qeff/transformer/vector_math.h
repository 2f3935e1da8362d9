// SPDX-License-Identifier: Apache-2.0
//
// Elementary float32 functions that compilers vectorize and that give the same
// bits on every machine, which the C library's do not promise.

#ifndef QEFF_TRANSFORMER_VECTOR_MATH_H_
#define QEFF_TRANSFORMER_VECTOR_MATH_H_

#include <cstdint>
#include <cstring>

#include "qeff/util/vector_clones.h"

namespace qeff {

// e^x with a relative error below 4 * 2^-24; 0 below -87, e^88 above 88, NaN
// for NaN. Branch-free.
//
// x = n ln2 + r with |r| <= ln2/2 (a little more where x * log2(e) is rounded
// to the other side); e^r by its Taylor polynomial of degree 7, whose next term
// r^8/8! is below 6e-9 there.
inline float ExpFloat(float x) {
  constexpr float kLog2E = 1.44269504f;
  // ln2 in two parts: n * kLn2High is exact for |n| < 2^14.
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to int

  const float clamped = x > 88.0f ? 88.0f : (x < -87.0f ? -87.0f : x);
  const float shifted = clamped * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;

  // The integer n is in the low bits of `shifted`; 2^n from its exponent.
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  const float result = p * power;
  return x < -87.0f ? 0.0f : result;
}

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_VECTOR_MATH_H_
