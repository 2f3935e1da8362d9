// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/integer_codes.h"

#include <cmath>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "qeff/format/codebook.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/format/packing.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// mxint8 is in two's complement, and k / 64 * 2^e is k * 2^(e - 6).
QuantizedMatrix IntegersOfMxint8(const QuantizedMatrix& matrix) {
  const CodebookRowsView& rows = *matrix.codebook;
  QuantizedMatrix result = matrix;
  result.codebook.reset();
  auto packed = std::make_shared<std::vector<uint8_t>>(rows.packed.begin(),
                                                       rows.packed.end());
  const size_t cols = static_cast<size_t>(matrix.cols);
  const size_t row_bytes = static_cast<size_t>(matrix.row_bytes);
  for (size_t begin = 0; begin < packed->size(); begin += row_bytes) {
    for (size_t c = 0; c < cols; ++c) (*packed)[begin + c] ^= 0x80;
  }
  auto scales = std::make_shared<std::vector<uint8_t>>(rows.scales.size() * 2);
  for (size_t i = 0; i < rows.scales.size(); ++i) {
    StoreScale(E8M0ToFloat(rows.scales[i]) * 0x1p-6f, DType::kBF16,
               scales->data() + 2 * i);
  }
  result.codes.bits = 8;
  result.codes.cols = matrix.cols;
  result.codes.group_elems = matrix.group_elems;
  result.codes.scale_dtype = DType::kBF16;
  result.codes.packed = *packed;
  result.codes.scales = *scales;
  result.owned = {std::move(packed), std::move(scales)};
  return result;
}

QuantizedMatrix IntegersOfSignedBytes(const QuantizedMatrix& matrix) {
  const size_t cols = static_cast<size_t>(matrix.cols);
  const size_t row_bytes = static_cast<size_t>(matrix.row_bytes);
  auto packed = std::make_shared<std::vector<uint8_t>>(
      static_cast<size_t>(matrix.rows) * row_bytes);
  for (size_t r = 0; r < static_cast<size_t>(matrix.rows); ++r) {
    for (size_t c = 0; c < cols; ++c) {
      (*packed)[r * row_bytes + c] =
          static_cast<uint8_t>(matrix.signed_bytes[r * cols + c] ^ 0x80);
    }
  }
  QuantizedMatrix result = matrix;
  result.signed_bytes = {};
  result.codes.packed = *packed;
  result.owned.push_back(std::move(packed));
  return result;
}

}  // namespace

bool HasIntegerCodes(const QuantizedMatrix& matrix) {
  if (!matrix.signed_bytes.empty()) return true;
  if (matrix.codebook.has_value()) {
    return matrix.codebook->codebook == Codebook::kMxint8;
  }
  return matrix.ggml == GgmlType::kQ4_0 || matrix.ggml == GgmlType::kQ8_0;
}

absl::StatusOr<QuantizedMatrix> IntegerCodes(const QuantizedMatrix& matrix) {
  QEFF_CHECK(HasIntegerCodes(matrix));
  if (!matrix.signed_bytes.empty()) return IntegersOfSignedBytes(matrix);
  if (matrix.codebook.has_value()) return IntegersOfMxint8(matrix);
  const GgmlBlockFormat& format = *FindGgmlBlockFormat(*matrix.ggml);
  const size_t elems = static_cast<size_t>(format.block_elems);
  const size_t block_bytes = static_cast<size_t>(format.block_bytes);
  const size_t blocks = matrix.blocks.size() / block_bytes;
  QuantizedMatrix result;
  result.module = matrix.module;
  result.rows = matrix.rows;
  result.cols = matrix.cols;
  result.bits = format.type == GgmlType::kQ4_0 ? 4 : 8;
  result.group_elems = format.block_elems;
  result.groups = matrix.cols / format.block_elems;
  const size_t packed_bytes = elems * static_cast<size_t>(result.bits) / 8;
  result.row_bytes = result.groups * static_cast<int64_t>(packed_bytes);
  auto packed = std::make_shared<std::vector<uint8_t>>(blocks * packed_bytes);
  auto scales = std::make_shared<std::vector<uint8_t>>(blocks * 2);
  for (size_t b = 0; b < blocks; ++b) {
    GgmlBlockParams params;
    int8_t codes[kMaxGgmlBlockElems];
    uint8_t unsigned_codes[kMaxGgmlBlockElems];
    UnpackGgmlBlock(format.type,
                    matrix.blocks.subspan(b * block_bytes, block_bytes),
                    &params, absl::MakeSpan(codes, elems));
    if (!std::isfinite(params.d)) {
      const int64_t block = static_cast<int64_t>(b);
      return BlockNotFinite(matrix, block / result.groups,
                            block % result.groups * format.block_elems);
    }
    for (size_t i = 0; i < elems; ++i) {
      unsigned_codes[i] = static_cast<uint8_t>(codes[i] - format.min_code);
    }
    PackCodes(result.bits, absl::MakeSpan(unsigned_codes, elems),
              absl::MakeSpan(*packed).subspan(b * packed_bytes, packed_bytes));
    StoreScale(params.d, DType::kF16, scales->data() + 2 * b);
  }
  result.codes.bits = result.bits;
  result.codes.cols = result.cols;
  result.codes.group_elems = result.group_elems;
  result.codes.scale_dtype = DType::kF16;
  result.codes.packed = *packed;
  result.codes.scales = *scales;
  result.owned = {std::move(packed), std::move(scales)};
  return result;
}

}  // namespace qeff
