// SPDX-License-Identifier: Apache-2.0
//
// Reading a quantized linear layer of a checkpoint: validated, codes still
// packed and mapped.
//
//   QEFF_ASSIGN_OR_RETURN(auto config,
//       ParseQuantizationConfig(checkpoint.config(),
//                               checkpoint.config_path()));
//   if (config.has_value() && HasQuantizedWeight(checkpoint, module)) {
//     QEFF_ASSIGN_OR_RETURN(QuantizedMatrix matrix,
//         ReadQuantizedMatrix(checkpoint, module, *config));
//     QEFF_RETURN_IF_ERROR(DequantizeRows(matrix, 0, matrix.rows, out));
//   }

#ifndef QEFF_IO_QUANTIZED_TENSOR_H_
#define QEFF_IO_QUANTIZED_TENSOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/quantization_config.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// The weight of a linear layer, [rows, cols] = [out features, in features]
// whatever class the layer has: element (r, c) is
//   (code(r, c) - zero(r, c / group_elems)) * scale(r, c / group_elems),
// or, with `ggml`, what DecodeGgmlRow makes of `blocks`; bits, group_elems,
// groups and codes are not set then (integer_codes.h changes that); or, with
// `codebook`, what DecodeCodebookRow makes of it; codes are not set then. With
// `signed_bytes` codes.packed is empty (integer_codes.h sets it).
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
  absl::optional<GgmlType> ggml;
  absl::Span<const uint8_t> blocks;
  absl::optional<CodebookRowsView> codebook;
  // [rows, cols], code - 128 each; or empty.
  absl::Span<const uint8_t> signed_bytes;
  InputCodes inputs = InputCodes::kNone;
  float input_scale = 0;  // with InputCodes::kStatic

  // Memory that `codes` and `codebook` refer to, unless it is mapped.
  std::vector<std::shared_ptr<const std::vector<uint8_t>>> owned;

  bool symmetric() const { return codes.zeros.empty(); }
  // What is mapped, but for tensors in spaced form: [rows, row_bytes].
  absl::Span<const uint8_t> stored_rows() const {
    return ggml.has_value()       ? blocks
           : codebook.has_value() ? codebook->packed
           : codes.packed.empty() ? signed_bytes
                                  : codes.packed;
  }
};

// Whether `checkpoint` holds codes or blocks for the linear layer `module`.
bool HasQuantizedWeight(const Checkpoint& checkpoint, absl::string_view module);

// Reads `module`. Blocks stay mapped. Tensors of 3, 5, 6 or 7 bits in spaced
// form are rewritten to dense form, scales of a whole tensor to one a row, zero
// points to bytes; all else stays mapped. Errors, naming the folder and the
// tensor: kNotFound for a missing tensor; kInvalidArgument for a module that
// `config` does not quantize, a wrong dtype or shape (both are given), a group
// size that does not divide the row in compressed-tensors layout, a scale that
// is not finite (E8M0's 255 is NaN), a zero point outside the codes or an input
// scale that is no IsActivationScale; kUnimplemented for activation order
// (weight_g_idx).
absl::StatusOr<QuantizedMatrix> ReadQuantizedMatrix(
    const Checkpoint& checkpoint, absl::string_view module,
    const QuantizationConfig& config);

// Writes rows [row_begin, row_begin + row_count) as float32 to `out`, which
// has room for row_count * matrix.cols elements. Same bits on all machines.
// Errors: kOutOfRange when the rows do not exist; kInvalidArgument for a block
// of ggml whose scale is not finite, and for a code of a codebook whose value
// is not.
absl::Status DequantizeRows(const QuantizedMatrix& matrix, int64_t row_begin,
                            int64_t row_count, float* out);

// The error of a block of ggml whose scale is not finite, of any of its
// columns.
absl::Status BlockNotFinite(const QuantizedMatrix& matrix, int64_t row,
                            int64_t col);

// Drops the pages of the mapped codes of these rows (Checkpoint::Release).
// `checkpoint` is the one that `matrix` was read from.
void ReleaseRows(const Checkpoint& checkpoint, const QuantizedMatrix& matrix,
                 int64_t row_begin, int64_t row_count);

}  // namespace qeff

#endif  // QEFF_IO_QUANTIZED_TENSOR_H_
