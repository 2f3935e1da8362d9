// SPDX-License-Identifier: Apache-2.0
//
// Whole rows in ggml's block formats, by type: what reads and writes the
// tensors of GGUF files. The parts of a block are in ggml_block_params.h.

#ifndef QEFF_FORMAT_GGML_CODEC_H_
#define QEFF_FORMAT_GGML_CODEC_H_

#include <cstdint>

#include "absl/types/span.h"
#include "qeff/format/ggml_blocks.h"

namespace qeff {

// Encodes a row. With an empty `importance` the bytes are those of ggml's
// reference quantizer (but for what EncodeMXFP4 says); with one number a
// column, parameters are those of ChooseGgmlParams, which knows kQ8_0, kQ4_0,
// kQ4_K, kQ5_K and kQ6_K. Preconditions (checked): `type` has a format
// (FindGgmlBlockFormat), one of these with importance, row.size() is a whole
// number of blocks, and blocks has room for exactly as many; not checked: the
// values fit (FirstUnfitForGgml), importance is finite and not below 0. The
// same bits on every machine. Thread-safe.
void EncodeGgmlRow(GgmlType type, absl::Span<const float> row,
                   absl::Span<const float> importance,
                   absl::Span<uint8_t> blocks);

// Decodes a row, to the bits that ggml gives. Any bytes are blocks: scales that
// are NaN or infinite make values that are. Preconditions (checked): as above.
void DecodeGgmlRow(GgmlType type, absl::Span<const uint8_t> blocks,
                   absl::Span<float> row);

}  // namespace qeff

#endif  // QEFF_FORMAT_GGML_CODEC_H_
