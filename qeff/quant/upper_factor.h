// SPDX-License-Identifier: Apache-2.0
//
// The factor of a Hessian that error propagation works with.

#ifndef QEFF_QUANT_UPPER_FACTOR_H_
#define QEFF_QUANT_UPPER_FACTOR_H_

#include <cstdint>

#include "qeff/quant/timed_products.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// Columns that are factored at a time.
inline constexpr int64_t kFactorBlock = 128;

// Replaces what is on and above the diagonal of `h` [n, n], a symmetric
// matrix, by that of the upper triangular R with H = R R^T and a positive
// diagonal; what is below is neither read nor meaningful afterwards. Returns
// false when H is not positive definite in float32 (or has NaN or infinity),
// and `h` is then unspecified. Sets `inverses` [n, at most kFactorBlock] to the
// inverses of R's blocks on the diagonal: row i of the block that begins at
// column b is row b + i. Precondition (checked): `h` is square.
//
// This is the Cholesky factor of H with rows and columns in reverse order,
// reversed again. U = R^-1 is the upper factor of H^-1 = U^T U that papers
// about GPTQ use, without inverting anything.
// Cost: n^3 / 3 multiplications and additions, and about 300 n^2 more, as
// products of blocks; blocks on the diagonal are factored in double. The same
// bits for any number of threads. Throws std::bad_alloc.
bool FactorUpper(MatrixView<float> h, Matrix<float>* inverses,
                 TimedProducts& products);

}  // namespace qeff

#endif  // QEFF_QUANT_UPPER_FACTOR_H_
