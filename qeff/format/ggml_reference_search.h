// SPDX-License-Identifier: Apache-2.0
//
// How ggml chooses the parameters of Q4_K, Q5_K and Q6_K when it knows nothing
// but the weights. Same bits as its reference quantizer. With more knowledge,
// or to do better without, see ggml_importance.h.

#ifndef QEFF_FORMAT_GGML_REFERENCE_SEARCH_H_
#define QEFF_FORMAT_GGML_REFERENCE_SEARCH_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/format/ggml_block_params.h"

namespace qeff {

// Chooses the parameters of the block `x` of kQ4_K, kQ5_K or kQ6_K, and sets
// `codes` to those that its search found: RoundToGgmlCodes replaces them, but
// in sub-blocks whose scale is 0, where ggml keeps them.
//
// Q6_K: each sub-block's scale is the best of 19, by the sum of x^2 (x - v)^2.
// Q4_K, Q5_K: scale and minimum are the best of 22 and 17 least-squares fits,
// by the sum of w (x - v)^2, w = |x| + root of the mean of x^2; minimums are
// not above 0. Then scales and minimums are divided by their largest and
// rounded to 6 bits (8 in Q6_K).
//
// Preconditions: the type and the sizes (checked); FirstUnfitForGgml finds
// nothing (not checked). The same bits on every machine. Thread-safe.
// Source: ggml-quants.c, quantize_row_q4_K_ref, q5_K_ref and q6_K_ref.
GgmlBlockParams ChooseReferenceParams(GgmlType type, absl::Span<const float> x,
                                      absl::Span<int8_t> codes);

}  // namespace qeff

#endif  // QEFF_FORMAT_GGML_REFERENCE_SEARCH_H_
