// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/quantize/dequantize.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "qeff/format/packing.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/kernels/quantize/packing-inl.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {

// Codes that are unpacked at a time: whole blocks of words, and little enough
// to stay in the first-level cache with their values.
constexpr size_t kChunkCodes = 1024;

// Unpacks `count` codes from `bytes` bytes of words, which may end inside the
// last lane's bytes. `codes` has room for whole lanes.
template <int kBits>
HWY_INLINE void UnpackChunk(const uint8_t* from, size_t bytes, size_t count,
                            uint8_t* codes) {
  const size_t lanes = std::min(bytes / kBits, count / kLaneCodes);
  UnpackLaneRun<kBits>(from, lanes, codes);
  for (size_t done = lanes; done * kLaneCodes < count; ++done) {
    uint8_t lane[kBits] = {};
    std::memcpy(lane, from + done * kBits,
                std::min<size_t>(kBits, bytes - done * kBits));
    UnpackLaneRun<kBits>(lane, 1, codes + done * kLaneCodes);
  }
}

HWY_INLINE void DecodeGroup(const uint8_t* codes, size_t count, int zero,
                            float scale, float* to) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<int32_t, decltype(df)> di;
  const hn::Rebind<uint8_t, decltype(df)> d8;
  const auto vzero = hn::Set(di, zero);
  const auto vscale = hn::Set(df, scale);
  size_t i = 0;
  for (; i + hn::Lanes(df) <= count; i += hn::Lanes(df)) {
    const auto code = hn::PromoteTo(di, LoadBytes(d8, codes + i));
    hn::StoreU(hn::Mul(hn::ConvertTo(df, hn::Sub(code, vzero)), vscale), df,
               to + i);
  }
  for (; i < count; ++i) to[i] = DequantizeValue(codes[i], zero, scale);
}

template <int kBits>
void DequantizeRow(const QuantizedRowsView& from, int64_t row, float* to) {
  const size_t cols = static_cast<size_t>(from.cols);
  const size_t group = static_cast<size_t>(from.group_elems);
  const size_t groups = CeilDiv(cols, group);
  const size_t row_bytes =
      static_cast<size_t>(4 * PackedWords(kBits, from.cols));
  const size_t scale_bytes = DTypeBytes(from.scale_dtype);
  const uint8_t* packed =
      from.packed.data() + static_cast<size_t>(row) * row_bytes;
  size_t g = static_cast<size_t>(row) * groups;  // of the next element
  size_t left = 0;                               // elements left of its group
  int zero = 1 << (kBits - 1);
  float scale = 0;
  HWY_ALIGN uint8_t codes[kChunkCodes];
  for (size_t begin = 0; begin < cols; begin += kChunkCodes) {
    const size_t count = std::min(kChunkCodes, cols - begin);
    const size_t first_byte = begin / kLaneCodes * kBits;
    UnpackChunk<kBits>(packed + first_byte, row_bytes - first_byte, count,
                       codes);
    for (size_t done = 0; done < count;) {
      if (left == 0) {
        scale =
            LoadScale(from.scale_dtype, from.scales.data() + g * scale_bytes);
        if (!from.zeros.empty()) zero = from.zeros[g];
        ++g;
        left = group;
      }
      const size_t run = std::min(left, count - done);
      DecodeGroup(codes + done, run, zero, scale, to + begin + done);
      done += run;
      left -= run;
    }
  }
}

template <int kBits>
void DequantizeRun(const QuantizedRowsView& from, int64_t begin, int64_t count,
                   float* to) {
  for (int64_t r = 0; r < count; ++r) {
    DequantizeRow<kBits>(from, begin + r, to + r * from.cols);
  }
}

void DequantizeBits(const QuantizedRowsView& from, int64_t begin, int64_t count,
                    float* to) {
  switch (from.bits) {
    case 2:
      return DequantizeRun<2>(from, begin, count, to);
    case 3:
      return DequantizeRun<3>(from, begin, count, to);
    case 4:
      return DequantizeRun<4>(from, begin, count, to);
    case 5:
      return DequantizeRun<5>(from, begin, count, to);
    case 6:
      return DequantizeRun<6>(from, begin, count, to);
    case 7:
      return DequantizeRun<7>(from, begin, count, to);
    default:
      return DequantizeRun<8>(from, begin, count, to);
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {

HWY_EXPORT(DequantizeBits);

void DequantizeRows(const QuantizedRowsView& from, int64_t row_begin,
                    int64_t row_count, absl::Span<float> to) {
  QEFF_CHECK(from.bits >= kMinQuantBits && from.bits <= kMaxQuantBits);
  QEFF_CHECK(IsScaleDType(from.scale_dtype));
  QEFF_CHECK(row_begin >= 0 && row_count >= 0 && from.cols >= 0);
  QEFF_CHECK(to.size() == static_cast<size_t>(row_count * from.cols));
  if (to.empty()) return;
  QEFF_CHECK(from.group_elems >= 1);
  const size_t rows = static_cast<size_t>(row_begin + row_count);
  const size_t groups =
      rows * static_cast<size_t>(CeilDiv(from.cols, from.group_elems));
  QEFF_CHECK(from.packed.size() >=
             rows * 4 * static_cast<size_t>(PackedWords(from.bits, from.cols)));
  QEFF_CHECK(from.scales.size() >= groups * DTypeBytes(from.scale_dtype));
  QEFF_CHECK(from.zeros.empty() || from.zeros.size() >= groups);
  HWY_DYNAMIC_DISPATCH(DequantizeBits)(from, row_begin, row_count, to.data());
}

}  // namespace qeff
#endif  // HWY_ONCE
