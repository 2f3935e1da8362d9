// SPDX-License-Identifier: Apache-2.0
//
// Parameters of groups that lose less than those of the range: the outermost
// weights of a group are few, and it may pay to miss them.

#ifndef QEFF_QUANT_GROUP_SEARCH_H_
#define QEFF_QUANT_GROUP_SEARCH_H_

#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// Parameters that make sum_j importance_j (w_j - value(code(w_j)))^2 small for
// a group of `weights`, code being that of QuantizeValue: the best of those of
// ComputeGroupParams and of ranges that are shrunk, or stretched a little, for
// symmetric schemes with either sign of the scale (kAbsMax: positive only),
// each improved by least squares. Never worse than ComputeGroupParams. With 8
// bits there is nothing to gain, and these are returned. Preconditions
// (checked): equal sizes; finite weights, importance finite and not negative.
// The same on every machine. Thread-safe. Allocates nothing.
// Cost: about 40 times that of rounding the group.
GroupParams SearchGroupParams(const QuantScheme& scheme,
                              absl::Span<const float> weights,
                              absl::Span<const float> importance,
                              DType scale_dtype);

}  // namespace qeff

#endif  // QEFF_QUANT_GROUP_SEARCH_H_
