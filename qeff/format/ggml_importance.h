// SPDX-License-Identifier: Apache-2.0
//
// Parameters of ggml's blocks for the least error where it matters: that of
// each weight counts by a number of its own, such as the mean square of the
// input that it meets (the importance matrix of llama.cpp). Searches more than
// ggml's quantizers do; any reader of the format reads the result.

#ifndef QEFF_FORMAT_GGML_IMPORTANCE_H_
#define QEFF_FORMAT_GGML_IMPORTANCE_H_

#include "absl/types/span.h"
#include "qeff/format/ggml_block_params.h"

namespace qeff {

// Parameters of the block `x` that make the sum of importance * (x - value)^2
// small, with each element rounded as RoundToGgmlCodes does. importance has
// the size of x, no element below 0; all 1 is a choice too, and where all of a
// block are 0, they count as that.
//
// A sub-block starts from several scales (and minimums) that nearly cover its
// range, of both signs where codes are signed; each is refined by rounding and
// least squares in turn until that no longer helps. Then scales are brought
// into the block's codes: one sub-block's at a time, by the error itself, and
// d and dmin by least squares over the block. Q8_0 is max|x| / 127.
//
// Preconditions: `type` is kQ8_0, kQ4_0, kQ4_K, kQ5_K or kQ6_K, the sizes
// (checked); FirstUnfitForGgml finds nothing, importance is finite (not
// checked). The same bits on every
// machine. Cost: 0.25 us a weight, 0.4 us of Q6_K. Thread-safe.
GgmlBlockParams ChooseGgmlParams(GgmlType type, absl::Span<const float> x,
                                 absl::Span<const float> importance);

}  // namespace qeff

#endif  // QEFF_FORMAT_GGML_IMPORTANCE_H_
