// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/codebook_rows.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/format/packing.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Codes that are decoded at a time: whole words of any number of bits.
constexpr size_t kChunk = 256;

constexpr size_t kWordBytes = 4;

// Codes [begin, begin + codes.size()) of a row, begin a multiple of kChunk.
void UnpackChunk(int bits, absl::Span<const uint8_t> packed, size_t begin,
                 absl::Span<uint8_t> codes) {
  const size_t width = static_cast<size_t>(bits);
  const size_t first = begin * width / 8;
  const size_t bytes =
      kWordBytes * static_cast<size_t>(
                       PackedWords(bits, static_cast<int64_t>(codes.size())));
  if (first + bytes <= packed.size()) {
    UnpackCodes(bits, packed.subspan(first, bytes), codes);
    return;
  }
  // The last word is not whole.
  uint8_t padded[kChunk] = {};
  std::copy(packed.begin() + static_cast<std::ptrdiff_t>(first), packed.end(),
            padded);
  UnpackCodes(bits, absl::MakeSpan(padded, bytes), codes);
}

absl::Span<const uint8_t> PackedRow(const CodebookRowsView& rows, int64_t row) {
  return rows.packed.subspan(static_cast<size_t>(row * rows.row_bytes),
                             static_cast<size_t>(rows.row_bytes));
}

}  // namespace

float RoundedScale(float scale, DType scale_dtype) {
  // Weights near the largest float32 would round to infinity.
  const float most = scale_dtype == DType::kF16 ? 65504.0f : 0x1.FEp127f;
  scale = std::min(std::max(scale, -most), most);
  float smallest = 0x1p-126f;
  if (scale_dtype == DType::kBF16) {
    scale = BF16ToFloat(FloatToBF16(scale));
  } else if (scale_dtype == DType::kF16) {
    scale = F16ToFloat(FloatToF16(scale));
    smallest = 0x1p-24f;
  }
  return std::abs(scale) < smallest ? 1.0f : scale;
}

float CodebookScale(const QuantScheme& scheme, float absmax,
                    DType scale_dtype) {
  const CodebookFormat& format = FormatOf(*scheme.codebook);
  if (!format.e8m0) return RoundedScale(absmax / format.largest, scale_dtype);
  if (absmax == 0) return 1.0f;
  const int exponent = std::ilogb(absmax) - format.max_exponent;
  return E8M0ToFloat(
      static_cast<uint8_t>(std::min(std::max(exponent + 127, 0), 254)));
}

void StoreCodebookScale(float scale, DType dtype, uint8_t* to) {
  if (dtype == DType::kU8) {
    *to = FloatToE8M0(scale);
  } else {
    StoreScale(scale, dtype, to);
  }
}

float LoadCodebookScale(DType dtype, const uint8_t* from) {
  return dtype == DType::kU8 ? E8M0ToFloat(*from) : LoadScale(dtype, from);
}

void PackCodebookRow(int bits, absl::Span<const uint8_t> codes,
                     absl::Span<uint8_t> packed) {
  const size_t whole = packed.size() / kWordBytes * kWordBytes;
  const size_t count =
      std::min(codes.size(), whole * 8 / static_cast<size_t>(bits));
  PackCodes(bits, codes.first(count), packed.first(whole));
  if (whole == packed.size()) {
    QEFF_CHECK(count == codes.size());
    return;
  }
  const size_t rest = packed.size() - whole;
  QEFF_CHECK((codes.size() - count) * static_cast<size_t>(bits) <= rest * 8);
  uint8_t word[kWordBytes];
  PackCodes(bits, codes.subspan(count), word);
  std::copy_n(word, rest, packed.begin() + static_cast<std::ptrdiff_t>(whole));
}

void UnpackCodebookRow(const CodebookRowsView& rows, int64_t row,
                       absl::Span<uint8_t> codes) {
  QEFF_CHECK(static_cast<int64_t>(codes.size()) == rows.cols);
  const int bits = FormatOf(rows.codebook).bits;
  const absl::Span<const uint8_t> packed = PackedRow(rows, row);
  for (size_t begin = 0; begin < codes.size(); begin += kChunk) {
    UnpackChunk(bits, packed, begin, codes.subspan(begin, kChunk));
  }
}

void DecodeCodebookRow(const CodebookRowsView& rows, int64_t row,
                       absl::Span<float> out) {
  QEFF_CHECK(static_cast<int64_t>(out.size()) == rows.cols);
  const CodebookFormat& format = FormatOf(rows.codebook);
  const size_t scale_bytes = DTypeBytes(rows.scale_dtype);
  const size_t group_elems = static_cast<size_t>(rows.group_elems);
  const size_t groups = (out.size() + group_elems - 1) / group_elems;
  const uint8_t* scales =
      rows.scales.data() + static_cast<size_t>(row) * groups * scale_bytes;
  const absl::Span<const uint8_t> packed = PackedRow(rows, row);
  uint8_t codes[kChunk];
  for (size_t begin = 0; begin < out.size(); begin += kChunk) {
    const size_t end = std::min(begin + kChunk, out.size());
    UnpackChunk(format.bits, packed, begin, absl::MakeSpan(codes, end - begin));
    for (size_t i = begin; i < end;) {
      const size_t group = i / group_elems;
      const float scale =
          LoadCodebookScale(rows.scale_dtype, scales + group * scale_bytes);
      const size_t last = std::min(end, (group + 1) * group_elems);
      for (; i < last; ++i) out[i] = format.values[codes[i - begin]] * scale;
    }
  }
}

}  // namespace qeff
