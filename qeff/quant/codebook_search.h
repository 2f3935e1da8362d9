// SPDX-License-Identifier: Apache-2.0
//
// Scales of groups that are codes of a table (qeff/format/codebook.h) which
// lose less than those of the definition, and codes for them. For integers see
// mse_search.h.

#ifndef QEFF_QUANT_CODEBOOK_SEARCH_H_
#define QEFF_QUANT_CODEBOOK_SEARCH_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// The scale that makes sum_j importance_j (w_j - value(code(w_j)))^2 of a group
// of `weights` least, code being NearestCode, among that of CodebookScale and
//   powers of two: its neighbours;
//   nf4: shrunk and stretched ones of either sign (kAbsMax: positive only),
//     each improved by least squares;
//   fp8_e4m3: those within an octave, to a sixteenth.
// Never worse than CodebookScale; it is returned where all else overflows.
// `importance` may be empty: all equal, and fewer are tried with nf4.
// Preconditions (checked): sizes, not
// empty; finite weights, importance finite and not negative (not checked). The
// same on every machine. Thread-safe. Allocates nothing.
float SearchCodebookScale(const QuantScheme& scheme,
                          absl::Span<const float> weights,
                          absl::Span<const float> importance,
                          DType scale_dtype);

// The scale that rounding uses: by scheme.scale_rule that of the definition
// (kAbsMax), or the one that SearchCodebookScale finds with equal importance.
float RoundingScale(const QuantScheme& scheme, absl::Span<const float> weights,
                    DType scale_dtype);

// The largest magnitude; NaN or infinite if a weight is.
float AbsMax(absl::Span<const float> weights);

// NearestCode of weights[j] / scale, the quotient as a product with 1 / scale.
// Precondition (checked): equal sizes.
void CodebookCodes(const QuantScheme& scheme, absl::Span<const float> weights,
                   float scale, absl::Span<uint8_t> codes);

// Rounds a row: scales [groups] of `scale_dtype`, and codes, one a byte.
// Preconditions: finite weights; sizes (checked).
void RoundCodebookRow(const QuantScheme& scheme, absl::Span<const float> row,
                      DType scale_dtype, absl::Span<uint8_t> codes,
                      absl::Span<uint8_t> scales);

}  // namespace qeff

#endif  // QEFF_QUANT_CODEBOOK_SEARCH_H_
