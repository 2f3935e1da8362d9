// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/ggml/ggml_rows.h"

#include <cmath>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/ggml/ggml_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace HWY_NAMESPACE {

constexpr size_t kElems = static_cast<size_t>(kGgmlBlockElems);
constexpr size_t kHalf = kElems / 2;

// At most half a block.
using DF = hn::CappedTag<float, kHalf>;
using DI = hn::Rebind<int32_t, DF>;
using DU8 = hn::Rebind<uint8_t, DF>;
using DI8 = hn::Rebind<int8_t, DF>;

// The ends of a block's range, with 0. Exact in any order.
struct Range {
  float lo;
  float hi;
};

HWY_INLINE Range RangeOf(const float* HWY_RESTRICT x) {
  const DF df;
  auto lo = hn::Zero(df);
  auto hi = hn::Zero(df);
  for (size_t i = 0; i < kElems; i += hn::Lanes(df)) {
    const auto v = hn::LoadU(df, x + i);
    lo = hn::Min(lo, v);
    hi = hn::Max(hi, v);
  }
  return {hn::GetLane(hn::MinOfLanes(df, lo)),
          hn::GetLane(hn::MaxOfLanes(df, hi))};
}

HWY_INLINE float SignedMax(const float* HWY_RESTRICT x) {
  const Range range = RangeOf(x);
  if (range.hi > -range.lo) return range.hi;
  if (range.hi < -range.lo) return range.lo;
  for (size_t i = 0; i < kElems && range.hi > 0; ++i) {
    if (std::fabs(x[i]) == range.hi) return x[i];
  }
  return 0;
}

// 1 / d; 0 for a subnormal d.
HWY_INLINE float Inverse(float d) {
  return std::fabs(d) < std::numeric_limits<float>::min() ? 0.0f : 1.0f / d;
}

HWY_INLINE void StoreD(float d, uint8_t* HWY_RESTRICT block) {
  const uint16_t bits = FloatToF16(d);
  std::memcpy(block, &bits, sizeof(bits));
}

HWY_INLINE float LoadD(const uint8_t* HWY_RESTRICT block) {
  uint16_t bits;
  std::memcpy(&bits, block, sizeof(bits));
  return F16ToFloat(bits);
}

// min(15, floor(x * inverse + 8.5)), which is not below 0.
template <class V>
HWY_INLINE hn::VFromD<DI> Q4_0Codes(V x, V inverse) {
  const DF df;
  const DI di;
  const auto steps = hn::Add(hn::Mul(x, inverse), hn::Set(df, 8.5f));
  return hn::Min(hn::ConvertTo(di, steps), hn::Set(di, 15));
}

void EncodeQ4_0Blocks(const float* HWY_RESTRICT x, size_t blocks,
                      uint8_t* HWY_RESTRICT to) {
  const DF df;
  const DU8 du8;
  for (size_t b = 0; b < blocks; ++b) {
    const float d = SignedMax(x) / -8.0f;
    const auto inverse = hn::Set(df, Inverse(d));
    StoreD(d, to);
    for (size_t i = 0; i < kHalf; i += hn::Lanes(df)) {
      const auto low = Q4_0Codes(hn::LoadU(df, x + i), inverse);
      const auto high = Q4_0Codes(hn::LoadU(df, x + kHalf + i), inverse);
      const auto both = hn::Or(low, hn::ShiftLeft<4>(high));
      hn::StoreU(hn::DemoteTo(du8, both), du8, to + 2 + i);
    }
    x += kElems;
    to += kQ4_0BlockBytes;
  }
}

void EncodeQ8_0Blocks(const float* HWY_RESTRICT x, size_t blocks,
                      uint8_t* HWY_RESTRICT to) {
  const DF df;
  const DI di;
  const DI8 di8;
  const auto half = hn::Set(df, 0.5f);
  const auto one = hn::Set(di, 1);
  for (size_t b = 0; b < blocks; ++b) {
    const Range range = RangeOf(x);
    // Of zeros either end may be -0.
    const float d =
        std::fabs(range.hi < -range.lo ? range.lo : range.hi) / 127.0f;
    const auto inverse = hn::Set(df, Inverse(d));
    StoreD(d, to);
    for (size_t i = 0; i < kElems; i += hn::Lanes(df)) {
      const auto steps = hn::Mul(hn::LoadU(df, x + i), inverse);
      // What is cut off is exact; halves go away from 0.
      auto code = hn::ConvertTo(di, steps);
      const auto rest = hn::Sub(steps, hn::ConvertTo(df, code));
      code = hn::Add(code, hn::IfThenElseZero(
                               hn::RebindMask(di, hn::Ge(rest, half)), one));
      code = hn::Sub(code,
                     hn::IfThenElseZero(
                         hn::RebindMask(di, hn::Le(rest, hn::Neg(half))), one));
      hn::StoreU(hn::BitCast(DU8(), hn::DemoteTo(di8, code)), DU8(),
                 to + 2 + i);
    }
    x += kElems;
    to += kQ8_0BlockBytes;
  }
}

void DecodeQ4_0Blocks(const uint8_t* HWY_RESTRICT from, size_t blocks,
                      float* HWY_RESTRICT x) {
  const DF df;
  const DI di;
  const auto eight = hn::Set(di, 8);
  const auto mask = hn::Set(di, 15);
  for (size_t b = 0; b < blocks; ++b) {
    const auto d = hn::Set(df, LoadD(from));
    for (size_t i = 0; i < kHalf; i += hn::Lanes(df)) {
      const auto both = hn::PromoteTo(di, hn::LoadU(DU8(), from + 2 + i));
      const auto low = hn::Sub(hn::And(both, mask), eight);
      const auto high = hn::Sub(hn::ShiftRight<4>(both), eight);
      hn::StoreU(hn::Mul(hn::ConvertTo(df, low), d), df, x + i);
      hn::StoreU(hn::Mul(hn::ConvertTo(df, high), d), df, x + kHalf + i);
    }
    from += kQ4_0BlockBytes;
    x += kElems;
  }
}

void DecodeQ8_0Blocks(const uint8_t* HWY_RESTRICT from, size_t blocks,
                      float* HWY_RESTRICT x) {
  const DF df;
  const DI di;
  for (size_t b = 0; b < blocks; ++b) {
    const auto d = hn::Set(df, LoadD(from));
    for (size_t i = 0; i < kElems; i += hn::Lanes(df)) {
      const auto codes = hn::BitCast(DI8(), hn::LoadU(DU8(), from + 2 + i));
      const auto values = hn::ConvertTo(df, hn::PromoteTo(di, codes));
      hn::StoreU(hn::Mul(values, d), df, x + i);
    }
    from += kQ8_0BlockBytes;
    x += kElems;
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {

HWY_EXPORT(EncodeQ4_0Blocks);
HWY_EXPORT(EncodeQ8_0Blocks);
HWY_EXPORT(DecodeQ4_0Blocks);
HWY_EXPORT(DecodeQ8_0Blocks);

namespace {

// Checks the sizes and returns the number of blocks.
size_t NumBlocks(size_t elems, size_t bytes, int64_t block_bytes) {
  const size_t blocks = elems / static_cast<size_t>(kGgmlBlockElems);
  QEFF_CHECK(elems == blocks * static_cast<size_t>(kGgmlBlockElems));
  QEFF_CHECK(bytes == blocks * static_cast<size_t>(block_bytes));
  return blocks;
}

}  // namespace

void EncodeRowsQ4_0(absl::Span<const float> rows, absl::Span<uint8_t> blocks) {
  const size_t n = NumBlocks(rows.size(), blocks.size(), kQ4_0BlockBytes);
  HWY_DYNAMIC_DISPATCH(EncodeQ4_0Blocks)(rows.data(), n, blocks.data());
}

void EncodeRowsQ8_0(absl::Span<const float> rows, absl::Span<uint8_t> blocks) {
  const size_t n = NumBlocks(rows.size(), blocks.size(), kQ8_0BlockBytes);
  HWY_DYNAMIC_DISPATCH(EncodeQ8_0Blocks)(rows.data(), n, blocks.data());
}

void DecodeRowsQ4_0(absl::Span<const uint8_t> blocks, absl::Span<float> rows) {
  const size_t n = NumBlocks(rows.size(), blocks.size(), kQ4_0BlockBytes);
  HWY_DYNAMIC_DISPATCH(DecodeQ4_0Blocks)(blocks.data(), n, rows.data());
}

void DecodeRowsQ8_0(absl::Span<const uint8_t> blocks, absl::Span<float> rows) {
  const size_t n = NumBlocks(rows.size(), blocks.size(), kQ8_0BlockBytes);
  HWY_DYNAMIC_DISPATCH(DecodeQ8_0Blocks)(blocks.data(), n, rows.data());
}

}  // namespace qeff
#endif  // HWY_ONCE
