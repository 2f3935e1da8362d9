// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/ggml_repack.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "qeff/format/codebook.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/format/packing.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kElems = static_cast<size_t>(kGgmlBlockElems);

// What stands in the way, for people to read; empty when nothing does but
// perhaps a scale.
std::string WhyNoBlocks(const QuantizedMatrix& matrix) {
  if (matrix.inputs != InputCodes::kNone) {
    return "the layer's inputs become 8-bit codes, which a GGUF file cannot "
           "say";
  }
  if (matrix.codebook.has_value() &&
      matrix.codebook->codebook != Codebook::kMxfp4 &&
      matrix.codebook->codebook != Codebook::kMxint8) {
    return absl::StrCat("no block of ggml has the values of ",
                        FormatOf(matrix.codebook->codebook).name);
  }
  if (matrix.column_groups != nullptr) {
    return "its columns are in activation order (g_idx)";
  }
  if (matrix.cols % kGgmlBlockElems != 0) {
    return absl::StrCat("rows of ", matrix.cols, " are not whole blocks of ",
                        kGgmlBlockElems);
  }
  if (!matrix.symmetric()) {
    return "no block of ggml has zero points";
  }
  if (matrix.group_elems % kGgmlBlockElems != 0) {
    return absl::StrCat("groups of ", matrix.group_elems,
                        " are not whole blocks of ", kGgmlBlockElems);
  }
  return "";
}

// The factor of the codes of group `group`, counted over all rows.
float ScaleOf(const QuantizedMatrix& matrix, size_t group) {
  if (matrix.codebook.has_value()) {
    // mxint8: k / 64 * 2^e is k * 2^(e - 6).
    return E8M0ToFloat(matrix.codebook->scales[group]) * 0x1p-6f;
  }
  const DType dtype = matrix.codes.scale_dtype;
  return LoadScale(dtype,
                   matrix.codes.scales.data() + group * DTypeBytes(dtype));
}

absl::Status CheckScales(const QuantizedMatrix& matrix) {
  const size_t groups = static_cast<size_t>(matrix.groups);
  for (size_t i = 0; i < static_cast<size_t>(matrix.rows) * groups; ++i) {
    const float scale = ScaleOf(matrix, i);
    if (F16ToFloat(FloatToF16(scale)) == scale) continue;
    return InvalidInputError("layer ", matrix.module, ": scale [", i / groups,
                             ", ", i % groups, "]: the codes' factor ", scale,
                             " is no F16, which blocks of ggml have");
  }
  return absl::OkStatus();
}

// 16 bytes of 32 codes of 4 bits in their order, as nibbles j and j + 16.
void ShuffleNibbles(const uint8_t* packed, uint8_t* to) {
  for (size_t i = 0; i < 8; ++i) {
    const int first = packed[i];
    const int second = packed[8 + i];
    to[2 * i] = static_cast<uint8_t>((first & 15) | (second & 15) << 4);
    to[2 * i + 1] = static_cast<uint8_t>(first >> 4 | (second & 0xF0));
  }
}

// The codes of a row, signed.
void SignedCodes(const QuantizedMatrix& matrix, size_t row,
                 absl::Span<int8_t> codes) {
  const size_t cols = codes.size();
  const size_t row_bytes = static_cast<size_t>(matrix.row_bytes);
  const auto to_signed = [](uint8_t b) { return static_cast<int8_t>(b); };
  if (!matrix.signed_bytes.empty() || matrix.codebook.has_value()) {
    const uint8_t* from = matrix.codebook.has_value()
                              ? matrix.codebook->packed.data() + row * row_bytes
                              : matrix.signed_bytes.data() + row * cols;
    std::transform(from, from + cols, codes.begin(), to_signed);
    return;
  }
  std::vector<uint8_t> stored(cols);
  UnpackCodes(matrix.bits,
              matrix.codes.packed.subspan(row * row_bytes, row_bytes),
              absl::MakeSpan(stored));
  const int zero = 1 << (matrix.bits - 1);
  for (size_t c = 0; c < cols; ++c) {
    codes[c] = static_cast<int8_t>(stored[c] - zero);
  }
}

void RepackMxfp4(const CodebookRowsView& rows, size_t row, uint8_t* to) {
  const size_t blocks = static_cast<size_t>(rows.cols) / kElems;
  const uint8_t* packed =
      rows.packed.data() + row * static_cast<size_t>(rows.row_bytes);
  for (size_t b = 0; b < blocks; ++b) {
    to[0] = rows.scales[row * blocks + b];
    ShuffleNibbles(packed + b * kElems / 2, to + 1);
    to += kMXFP4BlockBytes;
  }
}

// Rows of 4 bits, the most frequent by far.
void RepackNibbles(const QuantizedMatrix& matrix, size_t row, uint8_t* to) {
  const uint8_t* packed =
      matrix.codes.packed.data() + row * static_cast<size_t>(matrix.row_bytes);
  const size_t blocks = static_cast<size_t>(matrix.cols) / kElems;
  const size_t group_elems = static_cast<size_t>(matrix.group_elems);
  for (size_t b = 0; b < blocks; ++b) {
    const size_t group =
        row * static_cast<size_t>(matrix.groups) + b * kElems / group_elems;
    StoreScale(ScaleOf(matrix, group), DType::kF16, to);
    ShuffleNibbles(packed + b * kElems / 2, to + 2);
    to += kQ4_0BlockBytes;
  }
}

void RepackIntegers(const QuantizedMatrix& matrix, GgmlType type, size_t row,
                    uint8_t* to) {
  const size_t block_bytes =
      static_cast<size_t>(FindGgmlBlockFormat(type)->block_bytes);
  const size_t group_elems = static_cast<size_t>(matrix.group_elems);
  std::vector<int8_t> codes(static_cast<size_t>(matrix.cols));
  SignedCodes(matrix, row, absl::MakeSpan(codes));
  for (size_t first = 0; first < codes.size(); first += kElems) {
    GgmlBlockParams params;
    params.d = ScaleOf(
        matrix, row * static_cast<size_t>(matrix.groups) + first / group_elems);
    PackGgmlBlock(type, params,
                  absl::MakeConstSpan(codes).subspan(first, kElems),
                  absl::MakeSpan(to, block_bytes));
    to += block_bytes;
  }
}

}  // namespace

absl::StatusOr<GgmlType> FindRepackType(const QuantizedMatrix& matrix) {
  if (matrix.ggml.has_value()) return *matrix.ggml;
  const std::string why = WhyNoBlocks(matrix);
  if (!why.empty()) {
    return InvalidInputError("layer ", matrix.module, ": ", why);
  }
  if (matrix.codebook.has_value() &&
      matrix.codebook->codebook == Codebook::kMxfp4) {
    return GgmlType::kMXFP4;
  }
  QEFF_RETURN_IF_ERROR(CheckScales(matrix));
  return matrix.bits <= 4   ? GgmlType::kQ4_0
         : matrix.bits == 5 ? GgmlType::kQ5_0
                            : GgmlType::kQ8_0;
}

void RepackRows(const QuantizedMatrix& matrix, GgmlType type, int64_t begin,
                int64_t count, absl::Span<uint8_t> blocks) {
  QEFF_CHECK(begin >= 0 && count >= 0 && begin + count <= matrix.rows);
  const GgmlTypeTraits& traits = *FindGgmlType(type);
  const size_t row_bytes = static_cast<size_t>(matrix.cols) /
                           traits.block_elems * traits.block_bytes;
  QEFF_CHECK(blocks.size() == static_cast<size_t>(count) * row_bytes);
  if (matrix.ggml.has_value()) {
    const uint8_t* from =
        matrix.blocks.data() + static_cast<size_t>(begin) * row_bytes;
    std::copy_n(from, blocks.size(), blocks.begin());
    return;
  }
  for (size_t r = 0; r < static_cast<size_t>(count); ++r) {
    const size_t row = static_cast<size_t>(begin) + r;
    uint8_t* to = blocks.data() + r * row_bytes;
    if (type == GgmlType::kMXFP4) {
      RepackMxfp4(*matrix.codebook, row, to);
    } else if (matrix.bits == 4) {
      RepackNibbles(matrix, row, to);
    } else {
      RepackIntegers(matrix, type, row, to);
    }
  }
}

}  // namespace qeff
