// SPDX-License-Identifier: Apache-2.0
//
// The weight of a quantized linear layer, in one form whatever the folder's.
// For reading one see quantized_tensor.h.

#ifndef QEFF_IO_QUANTIZED_MATRIX_H_
#define QEFF_IO_QUANTIZED_MATRIX_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/kernels/quantize/quantize.h"

namespace qeff {

// The weight of a linear layer, [rows, cols] = [out features, in features]
// whatever class the layer has: element (r, c) is
//   (code(r, c) - zero(r, c / group_elems)) * scale(r, c / group_elems),
// or, with `ggml`, what DecodeGgmlRow makes of `blocks`; bits, group_elems,
// groups and codes are not set then (integer_codes.h changes that); or, with
// `codebook`, what DecodeCodebookRow makes of it; codes are not set then. With
// `signed_bytes` codes.packed is empty (integer_codes.h sets it). With
// `column_groups` element (r, c) has the group (*column_groups)[c] instead of
// c / group_elems, and `codes` alone does not say what it is worth.
// Borrows the checkpoint, owns what had to be rewritten. Copies share that.
// Thread-safe.
struct QuantizedMatrix {
  std::string module;
  int64_t rows = 0;
  int64_t cols = 0;
  int bits = 0;
  int64_t group_elems = 0;  // of every group but the last; cols when per row
  int64_t groups = 0;       // a row
  // Codes in dense form (qeff/format/packing.h), `row_bytes` a row; scales
  // [rows, groups] in codes.scale_dtype; codes.zeros [rows, groups], empty
  // when symmetric, which means 2^(bits-1) everywhere.
  QuantizedRowsView codes;
  int64_t row_bytes = 0;  // of blocks and codes of a codebook, too
  // File and tensor of blocks and of codes of a codebook, for messages.
  std::string place;
  absl::optional<GgmlType> ggml;
  absl::Span<const uint8_t> blocks;
  absl::optional<CodebookRowsView> codebook;
  // [rows, cols], code - 128 each; or empty.
  absl::Span<const uint8_t> signed_bytes;
  // [cols], each below `groups`: GPTQ's activation order; or null.
  std::shared_ptr<const std::vector<int32_t>> column_groups;
  InputCodes inputs = InputCodes::kNone;
  float input_scale = 0;  // with InputCodes::kStatic

  // Memory that `codes` and `codebook` refer to, unless it is mapped.
  std::vector<std::shared_ptr<const std::vector<uint8_t>>> owned;

  bool symmetric() const { return codes.zeros.empty(); }
  // What is mapped, unless it had to be rewritten: [rows, row_bytes].
  absl::Span<const uint8_t> stored_rows() const {
    return ggml.has_value()       ? blocks
           : codebook.has_value() ? codebook->packed
           : codes.packed.empty() ? signed_bytes
                                  : codes.packed;
  }
};

}  // namespace qeff

#endif  // QEFF_IO_QUANTIZED_MATRIX_H_
