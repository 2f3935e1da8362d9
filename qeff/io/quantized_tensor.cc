// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/quantized_tensor.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/format/codebook_rows.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/format/packing.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/io/gptq_awq_tensor.h"
#include "qeff/io/messages.h"
#include "qeff/io/packed_tensor.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// What a code is more than its signed byte.
constexpr int kSignedOffset = 128;

absl::Status DecodeCodebook(const QuantizedMatrix& matrix, int64_t row_begin,
                            int64_t row_count, float* out) {
  const CodebookRowsView& rows = *matrix.codebook;
  const size_t cols = static_cast<size_t>(matrix.cols);
  for (int64_t row = row_begin; row < row_begin + row_count; ++row) {
    const absl::Span<float> to(
        out + static_cast<size_t>(row - row_begin) * cols, cols);
    DecodeCodebookRow(rows, row, to);
    for (size_t c = 0; c < cols; ++c) {
      if (std::isfinite(to[c])) continue;
      std::vector<uint8_t> codes(cols);
      UnpackCodebookRow(rows, row, absl::MakeSpan(codes));
      return InvalidInputError(matrix.place, ": row ", row, ", column ", c,
                               ": expected a finite value, found ", to[c],
                               ", code ", int{codes[c]});
    }
  }
  return absl::OkStatus();
}

// Codes are bytes of rows: not worth a kernel, they are read once.
void DequantizeSignedBytes(const QuantizedMatrix& matrix, int64_t row_begin,
                           int64_t row_count, float* out) {
  const size_t cols = static_cast<size_t>(matrix.cols);
  const size_t groups = static_cast<size_t>(matrix.groups);
  const size_t scale_bytes = DTypeBytes(matrix.codes.scale_dtype);
  for (int64_t r = 0; r < row_count; ++r) {
    const size_t row = static_cast<size_t>(row_begin + r);
    const uint8_t* bytes = matrix.signed_bytes.data() + row * cols;
    for (size_t g = 0; g < groups; ++g) {
      const size_t group = row * groups + g;
      const float scale =
          LoadScale(matrix.codes.scale_dtype,
                    matrix.codes.scales.data() + group * scale_bytes);
      const int zero =
          matrix.symmetric() ? 0 : matrix.codes.zeros[group] - kSignedOffset;
      const size_t begin = g * static_cast<size_t>(matrix.group_elems);
      const size_t end =
          std::min(cols, begin + static_cast<size_t>(matrix.group_elems));
      for (size_t c = begin; c < end; ++c) {
        out[static_cast<size_t>(r) * cols + c] =
            DequantizeValue(static_cast<int8_t>(bytes[c]), zero, scale);
      }
    }
  }
}

// Columns in an order of their own: not worth a kernel either.
void DequantizeColumnGroups(const QuantizedMatrix& matrix, int64_t row_begin,
                            int64_t row_count, float* out) {
  const QuantizedRowsView& codes = matrix.codes;
  const size_t cols = static_cast<size_t>(matrix.cols);
  const size_t groups = static_cast<size_t>(matrix.groups);
  const size_t row_bytes = static_cast<size_t>(matrix.row_bytes);
  const size_t scale_bytes = DTypeBytes(codes.scale_dtype);
  std::vector<uint8_t> row_codes(cols);
  std::vector<float> scales(groups);
  std::vector<int> zeros(groups, 1 << (matrix.bits - 1));
  for (int64_t r = 0; r < row_count; ++r) {
    const size_t row = static_cast<size_t>(row_begin + r);
    UnpackCodes(matrix.bits, codes.packed.subspan(row * row_bytes, row_bytes),
                absl::MakeSpan(row_codes));
    for (size_t g = 0; g < groups; ++g) {
      const size_t group = row * groups + g;
      scales[g] = LoadScale(codes.scale_dtype,
                            codes.scales.data() + group * scale_bytes);
      if (!matrix.symmetric()) zeros[g] = codes.zeros[group];
    }
    for (size_t c = 0; c < cols; ++c) {
      const size_t g = static_cast<size_t>((*matrix.column_groups)[c]);
      out[static_cast<size_t>(r) * cols + c] =
          DequantizeValue(row_codes[c], zeros[g], scales[g]);
    }
  }
}

absl::Status DecodeBlocks(const QuantizedMatrix& matrix, int64_t row_begin,
                          int64_t row_count, float* out) {
  const size_t cols = static_cast<size_t>(matrix.cols);
  const size_t row_bytes = static_cast<size_t>(matrix.row_bytes);
  for (int64_t row = row_begin; row < row_begin + row_count; ++row) {
    const absl::Span<float> to(
        out + static_cast<size_t>(row - row_begin) * cols, cols);
    DecodeGgmlRow(
        *matrix.ggml,
        matrix.blocks.subspan(static_cast<size_t>(row) * row_bytes, row_bytes),
        to);
    for (size_t c = 0; c < cols; ++c) {
      if (!std::isfinite(to[c])) {
        return BlockNotFinite(matrix, row, static_cast<int64_t>(c));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRows(const QuantizedMatrix& matrix, int64_t row_begin,
                       int64_t row_count) {
  if (row_begin >= 0 && row_count >= 0 && row_begin <= matrix.rows &&
      row_count <= matrix.rows - row_begin) {
    return absl::OkStatus();
  }
  return absl::OutOfRangeError(absl::StrCat(matrix.module, ": rows ", row_begin,
                                            " and ", row_count, " more of ",
                                            matrix.rows));
}

// How the layer `module` is stored.
absl::StatusOr<WeightQuantization> WeightsOf(const Checkpoint& checkpoint,
                                             absl::string_view module,
                                             const QuantizationConfig& config) {
  const absl::optional<WeightQuantization> weights = config.Find(module);
  if (weights.has_value()) return *weights;
  std::string name = ScaleTensorName(module);
  for (const std::string& codes :
       {PackedTensorName(module), BlocksTensorName(module)}) {
    if (checkpoint.Has(codes)) name = codes;
  }
  return InvalidInputError(checkpoint.folder(), ": tensor ", QuoteName(name),
                           ": quantization_config does not quantize this "
                           "module");
}

}  // namespace

bool HasQuantizedWeight(const Checkpoint& checkpoint,
                        absl::string_view module) {
  // fp8_e4m3 and signed bytes have no packed codes, but scales.
  return checkpoint.Has(PackedTensorName(module)) ||
         checkpoint.Has(QweightTensorName(module)) ||
         checkpoint.Has(BlocksTensorName(module)) ||
         checkpoint.Has(ScaleTensorName(module));
}

bool IsQuantizedLayer(const Checkpoint& checkpoint, absl::string_view module,
                      const QuantizationConfig& config) {
  return config.Find(module).has_value() &&
         (!IsInputMajor(config.layout()) ||
          HasQuantizedWeight(checkpoint, module));
}

absl::StatusOr<QuantizedMatrix> ReadQuantizedMatrix(
    const Checkpoint& checkpoint, absl::string_view module,
    const QuantizationConfig& config) {
  QEFF_ASSIGN_OR_RETURN(const WeightQuantization weights,
                        WeightsOf(checkpoint, module, config));
  if (!IsInputMajor(config.layout())) {
    return ReadPackedTensor(checkpoint, module, config.layout(), weights);
  }
  QEFF_ASSIGN_OR_RETURN(
      const GptqAwqTensor tensor,
      GptqAwqTensor::Open(checkpoint, module, config.layout(), weights));
  return tensor.Rows(0, tensor.description().rows);
}

absl::StatusOr<QuantizedMatrix> CheckQuantizedMatrix(
    const Checkpoint& checkpoint, absl::string_view module,
    const QuantizationConfig& config) {
  if (!IsInputMajor(config.layout())) {
    return ReadQuantizedMatrix(checkpoint, module, config);
  }
  QEFF_ASSIGN_OR_RETURN(const WeightQuantization weights,
                        WeightsOf(checkpoint, module, config));
  QEFF_ASSIGN_OR_RETURN(
      const GptqAwqTensor tensor,
      GptqAwqTensor::Open(checkpoint, module, config.layout(), weights));
  return tensor.description();
}

absl::Status ReadQuantizedRows(const Checkpoint& checkpoint,
                               absl::string_view module,
                               const QuantizationConfig& config,
                               int64_t row_begin, int64_t row_count,
                               float* out) {
  if (!IsInputMajor(config.layout())) {
    QEFF_ASSIGN_OR_RETURN(const QuantizedMatrix matrix,
                          ReadQuantizedMatrix(checkpoint, module, config));
    return DequantizeRows(matrix, row_begin, row_count, out);
  }
  QEFF_ASSIGN_OR_RETURN(const WeightQuantization weights,
                        WeightsOf(checkpoint, module, config));
  QEFF_ASSIGN_OR_RETURN(
      const GptqAwqTensor tensor,
      GptqAwqTensor::Open(checkpoint, module, config.layout(), weights));
  QEFF_RETURN_IF_ERROR(CheckRows(tensor.description(), row_begin, row_count));
  return DequantizeRows(tensor.Rows(row_begin, row_count), 0, row_count, out);
}

absl::Status DequantizeRows(const QuantizedMatrix& matrix, int64_t row_begin,
                            int64_t row_count, float* out) {
  QEFF_RETURN_IF_ERROR(CheckRows(matrix, row_begin, row_count));
  if (matrix.ggml.has_value()) {
    return DecodeBlocks(matrix, row_begin, row_count, out);
  }
  if (matrix.codebook.has_value()) {
    return DecodeCodebook(matrix, row_begin, row_count, out);
  }
  if (!matrix.signed_bytes.empty()) {
    DequantizeSignedBytes(matrix, row_begin, row_count, out);
    return absl::OkStatus();
  }
  if (matrix.column_groups != nullptr) {
    DequantizeColumnGroups(matrix, row_begin, row_count, out);
    return absl::OkStatus();
  }
  DequantizeRows(
      matrix.codes, row_begin, row_count,
      absl::MakeSpan(out, static_cast<size_t>(row_count * matrix.cols)));
  return absl::OkStatus();
}

absl::Status BlockNotFinite(const QuantizedMatrix& matrix, int64_t row,
                            int64_t col) {
  return InvalidInputError(matrix.place, ": row ", row,
                           ", the block of column ", col,
                           ": a scale that is not finite");
}

void ReleaseRows(const Checkpoint& checkpoint, const QuantizedMatrix& matrix,
                 int64_t row_begin, int64_t row_count) {
  const absl::Span<const uint8_t> packed = matrix.stored_rows();
  const int64_t row_bytes =
      matrix.signed_bytes.empty() ? matrix.row_bytes : matrix.cols;
  for (const auto& owned : matrix.owned) {
    if (packed.data() == owned->data()) return;
  }
  TensorView view;
  view.dtype = DType::kU8;
  view.shape = Shape({row_count * row_bytes});
  view.bytes = packed.subspan(static_cast<size_t>(row_begin * row_bytes),
                              static_cast<size_t>(row_count * row_bytes));
  checkpoint.Release(view);
}

}  // namespace qeff
