// SPDX-License-Identifier: Apache-2.0
//
// Parameters of groups of integers with the least squared error of the weights,
// all alike, which is what can be had without calibration, or by an importance,
// which GPTQ takes from its Hessian. For codes of tables see codebook_search.h.

#ifndef QEFF_QUANT_MSE_SEARCH_H_
#define QEFF_QUANT_MSE_SEARCH_H_

#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// Parameters that make sum_j importance_j (w_j - value(code(w_j)))^2 small for
// a group of `weights`, code being that of QuantizeValue: of
// ComputeGroupParams's scale times 16 factors, of either sign when symmetric
// (kAbsMax: positive only), otherwise with the zero points around
// ComputeGroupParams's, each improved by least squares, the best; then of the
// scales beside it in `scale_dtype`, until none is better. `importance` may be
// empty: all equal. Preconditions (checked): scheme.integers(); weights are not
// empty; equal sizes. Weights, of any magnitudes, must be finite, importance
// finite and not negative, at most 2^60.
// Numerics: never a greater error than ComputeGroupParams's beyond what float32
// tells apart in a sum of so many squares. Within 1 % of the best there is at 4
// bits and below in groups of 32, within 4 % at 8 bits, by importance of many
// sizes within 3.5 and 6.5 % (mse_search_test). The same bits on every machine.
// Thread-safe. Allocates nothing.
// Cost: 100 to 160 passes over the group, 15 to 26 ns a weight with AVX-512.
GroupParams LeastErrorParams(const QuantScheme& scheme,
                             absl::Span<const float> weights,
                             absl::Span<const float> importance,
                             DType scale_dtype);

}  // namespace qeff

#endif  // QEFF_QUANT_MSE_SEARCH_H_
