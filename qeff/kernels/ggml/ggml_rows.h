// SPDX-License-Identifier: Apache-2.0
//
// Rows of ggml's Q4_0 and Q8_0, encoded and decoded. What is computed is
// defined by the scalar functions of qeff/format/ggml_blocks.h.

#ifndef QEFF_KERNELS_GGML_GGML_ROWS_H_
#define QEFF_KERNELS_GGML_GGML_ROWS_H_

#include <cstdint>

#include "absl/types/span.h"

namespace qeff {

// EncodeQ4_0 and EncodeQ8_0, to the same bits on every target. Several rows may
// be encoded at once. The spans must not overlap; any alignment. Preconditions:
// the sizes (checked), as there; the values fit (not checked). Thread-safe.
void EncodeRowsQ4_0(absl::Span<const float> rows, absl::Span<uint8_t> blocks);
void EncodeRowsQ8_0(absl::Span<const float> rows, absl::Span<uint8_t> blocks);

// DecodeQ4_0 and DecodeQ8_0, likewise.
void DecodeRowsQ4_0(absl::Span<const uint8_t> blocks, absl::Span<float> rows);
void DecodeRowsQ8_0(absl::Span<const uint8_t> blocks, absl::Span<float> rows);

}  // namespace qeff

#endif  // QEFF_KERNELS_GGML_GGML_ROWS_H_
