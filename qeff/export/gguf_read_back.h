// SPDX-License-Identifier: Apache-2.0
//
// Whether what was read back from a file is what was written to it.

#ifndef QEFF_EXPORT_GGUF_READ_BACK_H_
#define QEFF_EXPORT_GGUF_READ_BACK_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/format/ggml_blocks.h"

namespace qeff {

// Index of the first element of `read` that is further from that of `written`
// than rounding to `type` can move it; written.size() when there is none. Of
// F32 equal, of F16 and BF16 half a step; in a block of ggml, with m its
// largest magnitude, half a step of its codes where every value has one within
// that, else (the last code missing, or chosen by search) a whole one:
//   Q8_0 m/254 · Q4_0 m/8 · Q4_1 m/15 · Q5_0 m/16 · Q5_1 m/31 · MXFP4 m/4
//   Q4_K, Q5_K, Q6_K m/2: their search may give up single elements
// and what rounding d (and m) to F16 adds. Preconditions (checked): equal
// sizes, whole blocks, a type that can be decoded.
int64_t FirstWrongReadBack(GgmlType type, absl::Span<const float> written,
                           absl::Span<const float> read);

}  // namespace qeff

#endif  // QEFF_EXPORT_GGUF_READ_BACK_H_
