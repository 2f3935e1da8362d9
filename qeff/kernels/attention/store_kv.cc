// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/attention/store_kv.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/attention/store_kv.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "qeff/kernels/convert/convert.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_store_kv {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using I32 = hn::RebindToSigned<F32>;
constexpr int64_t kN = static_cast<int64_t>(hn::MaxLanes(F32()));

// The largest of |x| as bits: those of magnitudes are ordered like the numbers,
// with NaN last.
float AbsMax(const float* x, int64_t count) {
  const I32 di;
  const auto magnitude = hn::Set(di, 0x7FFFFFFF);
  auto max = hn::Zero(di);
  int64_t i = 0;
  for (; i + kN <= count; i += kN) {
    const auto bits = hn::BitCast(di, hn::LoadU(F32(), x + i));
    max = hn::Max(max, hn::And(bits, magnitude));
  }
  HWY_ALIGN int32_t lanes[kN];
  hn::Store(max, di, lanes);
  int32_t result = *std::max_element(lanes, lanes + kN);
  for (; i < count; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof(bits));
    result = std::max(result, bits & 0x7FFFFFFF);
  }
  float absmax;
  std::memcpy(&absmax, &result, sizeof(absmax));
  return absmax;
}

// codes = round(x * inverse), which is at most 127.
void RoundRow(const float* x, int64_t count, float inverse, int8_t* codes) {
  const I32 di;
  const hn::Rebind<int16_t, F32> d16;
  const hn::Rebind<int8_t, F32> d8;
  // In [2^23, 2^24) floats are whole numbers: the sum rounds to nearest even,
  // and differs from the base in the code.
  const auto base = hn::Set(F32(), 12582912.0f);
  const auto vinverse = hn::Set(F32(), inverse);
  HWY_ALIGN float some[kN] = {};
  HWY_ALIGN int8_t some_codes[kN];
  for (int64_t i = 0; i < count; i += kN) {
    const bool whole = i + kN <= count;
    const size_t rest = static_cast<size_t>(count - i);
    if (!whole) std::memcpy(some, x + i, rest * sizeof(float));
    const auto from = whole ? hn::LoadU(F32(), x + i) : hn::Load(F32(), some);
    const auto sum = hn::Add(hn::Mul(from, vinverse), base);
    const auto code = hn::Sub(hn::BitCast(di, sum), hn::BitCast(di, base));
    const auto narrow = hn::DemoteTo(d8, hn::DemoteTo(d16, code));
    hn::StoreU(narrow, d8, whole ? codes + i : some_codes);
    if (!whole) std::memcpy(codes + i, some_codes, rest);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_store_kv
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_store_kv {
HWY_EXPORT(AbsMax);
HWY_EXPORT(RoundRow);

// So that 127 / absmax is finite.
constexpr float kSmallest = 0x1p-119f;

// Elements of a key that are converted at a time, on the stack.
constexpr int64_t kPiece = 64;

// How to make codes from one row of floats: the factor for int8.
struct Conversion {
  DType dtype;
  float inverse;
};

// Converts `count` elements to `to`.
void Convert(const Conversion& conversion, const float* x, int64_t count,
             uint8_t* to) {
  const size_t size = static_cast<size_t>(count);
  if (conversion.dtype == DType::kI8) {
    HWY_DYNAMIC_DISPATCH(RoundRow)
    (x, count, conversion.inverse, reinterpret_cast<int8_t*>(to));
  } else if (conversion.dtype == DType::kF16) {
    ConvertFromFloat({x, size}, DType::kF16, {to, 2 * size});
  } else {
    std::memcpy(to, x, size * sizeof(float));
  }
}

// The conversion of a row; its scale goes to `scale` when there is one.
Conversion Prepare(const KvLayout& layout, const float* x, uint8_t* scale) {
  if (layout.dtype() != DType::kI8) return {layout.dtype(), 1.0f};
  const float absmax = HWY_DYNAMIC_DISPATCH(AbsMax)(x, layout.head_dim());
  float factor = absmax / 127.0f, inverse = 127.0f / absmax;
  if (absmax < kSmallest) {
    factor = inverse = 0.0f;
  } else if (!(absmax <= std::numeric_limits<float>::max())) {
    factor = std::numeric_limits<float>::quiet_NaN();
  }
  std::memcpy(scale, &factor, sizeof(factor));
  return {DType::kI8, inverse};
}

template <typename T>
void Scatter(const uint8_t* from, int64_t count, uint8_t* to) {
  const T* elems = reinterpret_cast<const T*>(from);
  T* column = reinterpret_cast<T*>(to);
  for (int64_t i = 0; i < count; ++i) column[i * kKvBlockPositions] = elems[i];
}

// Into column `position` of a block.
void StoreKey(const KvLayout& layout, const float* k, int64_t position,
              uint8_t* block) {
  const Conversion conversion =
      Prepare(layout, k, block + layout.key_scales_offset() + position * 4);
  alignas(64) uint8_t piece[kPiece * sizeof(float)];
  for (int64_t d = 0; d < layout.head_dim(); d += kPiece) {
    const int64_t count = std::min(kPiece, layout.head_dim() - d);
    uint8_t* to = block + layout.KeyOffset(d, position);
    Convert(conversion, k + d, count, piece);
    switch (layout.dtype()) {
      case DType::kI8:
        Scatter<uint8_t>(piece, count, to);
        break;
      case DType::kF16:
        Scatter<uint16_t>(piece, count, to);
        break;
      default:
        Scatter<uint32_t>(piece, count, to);
    }
  }
}

void StoreValue(const KvLayout& layout, const float* v, int64_t position,
                uint8_t* block) {
  const int64_t elem_bytes = static_cast<int64_t>(DTypeBytes(layout.dtype()));
  const Conversion conversion =
      Prepare(layout, v, block + layout.value_scales_offset() + position * 4);
  uint8_t* row =
      block + layout.values_offset() + position * layout.value_row_bytes();
  Convert(conversion, v, layout.head_dim(), row);
  const int64_t used = layout.head_dim() * elem_bytes;
  std::memset(row + used, 0,
              static_cast<size_t>(layout.value_row_bytes() - used));
}

bool HoldsRows(absl::Span<const float> rows, int64_t count, int64_t stride,
               int64_t row) {
  return stride >= row &&
         static_cast<int64_t>(rows.size()) >= (count - 1) * stride + row;
}

}  // namespace internal_store_kv

void StoreKv(const KvLayout& layout, absl::Span<uint8_t> region,
             int64_t first_position, int64_t tokens, absl::Span<const float> k,
             int64_t k_stride_elems, absl::Span<const float> v,
             int64_t v_stride_elems) {
  using internal_store_kv::HoldsRows;
  QEFF_CHECK(first_position >= 0 && tokens >= 1);
  QEFF_CHECK(layout.RegionBytes(first_position + tokens)
                 .AtMost(static_cast<uint64_t>(region.size())) &&
             reinterpret_cast<uintptr_t>(region.data()) % 64 == 0);
  QEFF_CHECK(HoldsRows(k, tokens, k_stride_elems, layout.head_dim()) &&
             HoldsRows(v, tokens, v_stride_elems, layout.head_dim()));
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t position = (first_position + t) % kKvBlockPositions;
    uint8_t* block = region.data() + (first_position + t) / kKvBlockPositions *
                                         layout.block_bytes();
    internal_store_kv::StoreKey(layout, k.data() + t * k_stride_elems, position,
                                block);
    internal_store_kv::StoreValue(layout, v.data() + t * v_stride_elems,
                                  position, block);
  }
}

}  // namespace qeff
#endif  // HWY_ONCE
