// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/attention/kv_layout.h"

#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kCacheLineBytes = 64;
constexpr int64_t kMaxHeadDim = int64_t{1} << 16;
constexpr int64_t kVectorElems = 16;

}  // namespace

absl::StatusOr<KvLayout> KvLayout::Create(DType dtype, int64_t head_dim) {
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kI8) {
    return InvalidInputError("cache: type: expected F32, F16 or I8, found ",
                             DTypeName(dtype));
  }
  if (head_dim < 1 || head_dim > kMaxHeadDim) {
    return InvalidInputError("cache: head_dim: expected 1 to ", kMaxHeadDim,
                             ", found ", head_dim);
  }
  return KvLayout(dtype, head_dim);
}

KvLayout::KvLayout(DType dtype, int64_t head_dim)
    : dtype_(dtype),
      head_dim_(head_dim),
      elem_bytes_(static_cast<int64_t>(DTypeBytes(dtype))),
      value_stride_elems_(RoundUp(head_dim, kVectorElems)) {
  const int64_t scales_bytes = dtype == DType::kI8 ? kKvBlockPositions * 4 : 0;
  key_scales_offset_ =
      RoundUp(head_dim * kKvBlockPositions * elem_bytes_, kCacheLineBytes);
  values_offset_ = key_scales_offset_ + scales_bytes;
  value_scales_offset_ = values_offset_ + kKvBlockPositions * value_row_bytes();
  block_bytes_ = value_scales_offset_ + scales_bytes;
}

CheckedU64 KvLayout::RegionBytes(int64_t positions) const {
  return CheckedU64(positions / kKvBlockPositions +
                    (positions % kKvBlockPositions != 0)) *
         block_bytes();
}

}  // namespace qeff
