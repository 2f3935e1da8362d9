// SPDX-License-Identifier: Apache-2.0
//
// Sgemm from its formula, in double. For tests.

#ifndef QEFF_KERNELS_SGEMM_SGEMM_REFERENCE_H_
#define QEFF_KERNELS_SGEMM_SGEMM_REFERENCE_H_

#include <cmath>
#include <cstdint>

#include "qeff/kernels/sgemm/sgemm.h"

namespace qeff {

struct SgemmElement {
  double value;      // sum over k of a b
  double magnitude;  // sum over k of |a b|
};

inline SgemmElement SgemmExact(const SgemmArgs& args, int64_t row,
                               int64_t col) {
  const int64_t k = args.a_transposed ? args.a.rows() : args.a.cols();
  SgemmElement element = {0, 0};
  for (int64_t d = 0; d < k; ++d) {
    const double a =
        args.a_transposed ? args.a.row(d)[row] : args.a.row(row)[d];
    const double b =
        args.b_transposed ? args.b.row(col)[d] : args.b.row(d)[col];
    element.value += a * b;
    element.magnitude += std::abs(a * b);
  }
  return element;
}

}  // namespace qeff

#endif  // QEFF_KERNELS_SGEMM_SGEMM_REFERENCE_H_
