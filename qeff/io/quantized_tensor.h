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

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/quantization_config.h"
#include "qeff/io/quantized_matrix.h"

namespace qeff {

// Whether `checkpoint` holds codes or blocks for the linear layer `module`,
// whatever the layout.
bool HasQuantizedWeight(const Checkpoint& checkpoint, absl::string_view module);

// Whether the linear layer `module` is quantized: as `config` says, and, of
// layouts whose config does not name layers (IsInputMajor), if it has codes.
bool IsQuantizedLayer(const Checkpoint& checkpoint, absl::string_view module,
                      const QuantizationConfig& config);

// Reads `module`. Blocks stay mapped. Tensors of 3, 5, 6 or 7 bits in spaced
// form and those of GPTQ and AWQ are rewritten to dense form, scales of a whole
// tensor to one a row, zero points to bytes; all else stays mapped. Errors,
// naming the folder and the tensor: kNotFound for a missing tensor;
// kInvalidArgument for a module that `config` does not quantize, a wrong dtype
// or shape (both are given), a group size that does not divide the row in
// compressed-tensors layout, a scale that is not finite (E8M0's 255 is NaN), a
// zero point outside the codes, a group that does not exist, an input scale
// that is no IsActivationScale; and those of GptqAwqTensor::Open.
absl::StatusOr<QuantizedMatrix> ReadQuantizedMatrix(
    const Checkpoint& checkpoint, absl::string_view module,
    const QuantizationConfig& config);

// The same checks and sizes, but codes that would have to be rewritten are left
// out.
absl::StatusOr<QuantizedMatrix> CheckQuantizedMatrix(
    const Checkpoint& checkpoint, absl::string_view module,
    const QuantizationConfig& config);

// As ReadQuantizedMatrix and DequantizeRows, without rewriting other rows.
absl::Status ReadQuantizedRows(const Checkpoint& checkpoint,
                               absl::string_view module,
                               const QuantizationConfig& config,
                               int64_t row_begin, int64_t row_count,
                               float* out);

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
