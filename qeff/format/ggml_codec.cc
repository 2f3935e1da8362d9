// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/ggml_codec.h"

#include <cstddef>

#include "qeff/format/ggml_block_params.h"
#include "qeff/format/ggml_importance.h"
#include "qeff/format/ggml_reference_search.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Sizes of a block.
struct BlockSizes {
  size_t elems;
  size_t bytes;
};

// Checks the sizes of a row and of its blocks.
BlockSizes CheckSizes(GgmlType type, size_t row_elems, size_t blocks_bytes) {
  const GgmlBlockFormat* format = FindGgmlBlockFormat(type);
  QEFF_CHECK(format != nullptr);
  const BlockSizes block = {static_cast<size_t>(format->block_elems),
                            static_cast<size_t>(format->block_bytes)};
  QEFF_CHECK(row_elems % block.elems == 0);
  QEFF_CHECK(blocks_bytes == row_elems / block.elems * block.bytes);
  return block;
}

void EncodeBlock(GgmlType type, absl::Span<const float> x,
                 absl::Span<const float> importance,
                 absl::Span<uint8_t> bytes) {
  int8_t buffer[kMaxGgmlBlockElems] = {};
  const absl::Span<int8_t> codes(buffer, x.size());
  const GgmlBlockParams params = importance.empty()
                                     ? ChooseReferenceParams(type, x, codes)
                                     : ChooseGgmlParams(type, x, importance);
  RoundToGgmlCodes(type, params, x, codes);
  PackGgmlBlock(type, params, codes, bytes);
}

// Encodes a row of blocks of 32, and says whether they are.
bool EncodePlainBlocks(GgmlType type, absl::Span<const float> row,
                       absl::Span<uint8_t> blocks) {
  switch (type) {
    case GgmlType::kQ8_0:
      EncodeQ8_0(row, blocks);
      return true;
    case GgmlType::kQ4_0:
      EncodeQ4_0(row, blocks);
      return true;
    case GgmlType::kQ4_1:
      EncodeQ4_1(row, blocks);
      return true;
    case GgmlType::kQ5_0:
      EncodeQ5_0(row, blocks);
      return true;
    case GgmlType::kQ5_1:
      EncodeQ5_1(row, blocks);
      return true;
    case GgmlType::kMXFP4:
      EncodeMXFP4(row, blocks);
      return true;
    default:
      return false;
  }
}

void DecodeBlock(GgmlType type, absl::Span<const uint8_t> bytes, float* x) {
  const GgmlBlockFormat& format = *FindGgmlBlockFormat(type);
  GgmlBlockParams params;
  int8_t codes[kMaxGgmlBlockElems];
  UnpackGgmlBlock(
      type, bytes, &params,
      absl::MakeSpan(codes, static_cast<size_t>(format.block_elems)));
  for (int s = 0; s < format.num_sub_blocks(); ++s) {
    const float scale = params.scale(s);
    const float offset = params.offset(s);
    const int begin = s * format.sub_block_elems;
    for (int i = begin; i < begin + format.sub_block_elems; ++i) {
      x[i] = scale * static_cast<float>(codes[i]) - offset;
    }
  }
}

}  // namespace

void EncodeGgmlRow(GgmlType type, absl::Span<const float> row,
                   absl::Span<const float> importance,
                   absl::Span<uint8_t> blocks) {
  const BlockSizes block = CheckSizes(type, row.size(), blocks.size());
  QEFF_CHECK(importance.empty() || importance.size() == row.size());
  // Of these ggml rounds d after the codes are made.
  if (importance.empty() && EncodePlainBlocks(type, row, blocks)) return;
  for (size_t b = 0; b < row.size() / block.elems; ++b) {
    const size_t first = b * block.elems;
    EncodeBlock(type, row.subspan(first, block.elems),
                importance.empty() ? importance
                                   : importance.subspan(first, block.elems),
                blocks.subspan(b * block.bytes, block.bytes));
  }
}

void DecodeGgmlRow(GgmlType type, absl::Span<const uint8_t> blocks,
                   absl::Span<float> row) {
  const BlockSizes block = CheckSizes(type, row.size(), blocks.size());
  // The same, faster.
  if (type == GgmlType::kQ8_0) return DecodeQ8_0(blocks, row);
  if (type == GgmlType::kQ4_0) return DecodeQ4_0(blocks, row);
  for (size_t b = 0; b < row.size() / block.elems; ++b) {
    DecodeBlock(type, blocks.subspan(b * block.bytes, block.bytes),
                row.data() + b * block.elems);
  }
}

}  // namespace qeff
