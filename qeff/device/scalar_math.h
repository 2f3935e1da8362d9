// SPDX-License-Identifier: Apache-2.0
//
// Exponential and error function that give the same bits on every machine,
// which libm's do not: glibc picks an implementation by the CPU. Double
// precision, meant to be rounded to float.

#ifndef QEFF_DEVICE_SCALAR_MATH_H_
#define QEFF_DEVICE_SCALAR_MATH_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>

namespace qeff {
namespace internal_device {

// e^x with a relative error below 1e-12; 0 below -700, infinity above 700.
inline double Exp(double x) {
  if (std::isnan(x)) return x;
  if (x < -700.0) return 0.0;
  if (x > 700.0) return std::numeric_limits<double>::infinity();
  // x = k ln 2 + r with |r| <= 0.35; ln 2 in two parts, of which k times the
  // first is exact (33 bits times at most 11).
  constexpr double kLn2High = 0x1.62e42feep-1;
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  const double k = std::floor(x * 1.4426950408889634 + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;
  // Taylor series; the first term left out is below 0.35^11 / 11! = 3e-13.
  double sum = 1.0 / 3628800;
  for (const double c : {1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
                         1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0}) {
    sum = sum * r + c;
  }
  const uint64_t bits = static_cast<uint64_t>(static_cast<int64_t>(k) + 1023)
                        << 52;
  double scale;  // 2^k
  std::memcpy(&scale, &bits, sizeof(scale));
  return sum * scale;
}

// erf(x) with an absolute error below 1e-12.
inline double Erf(double x) {
  if (std::fabs(x) >= 6.0) return x < 0 ? -1.0 : 1.0;  // 1 - erf(6) = 2e-17
  // 2/sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!: no cancellation.
  double term = x;
  double sum = x;
  for (int n = 1; std::fabs(term) > 1e-17 * std::fabs(sum); ++n) {
    term *= 2.0 * x * x / (2.0 * n + 1.0);
    sum += term;
  }
  return 1.1283791670955126 * Exp(-x * x) * sum;
}

}  // namespace internal_device
}  // namespace qeff

#endif  // QEFF_DEVICE_SCALAR_MATH_H_
