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
  KvLayout layout;
  layout.dtype_ = dtype;
  layout.head_dim_ = head_dim;
  return layout;
}

int64_t KvLayout::value_stride_elems() const {
  return RoundUp(head_dim_, kVectorElems);
}

int64_t KvLayout::scales_bytes() const {
  return dtype_ == DType::kI8 ? kKvBlockPositions * 4 : 0;
}

int64_t KvLayout::key_scales_offset() const {
  return RoundUp(head_dim_ * kKvBlockPositions * elem_bytes(), kCacheLineBytes);
}

int64_t KvLayout::values_offset() const {
  return key_scales_offset() + scales_bytes();
}

int64_t KvLayout::value_scales_offset() const {
  return values_offset() + kKvBlockPositions * value_row_bytes();
}

int64_t KvLayout::block_bytes() const {
  return value_scales_offset() + scales_bytes();
}

CheckedU64 KvLayout::RegionBytes(int64_t positions) const {
  return CheckedU64(positions / kKvBlockPositions +
                    (positions % kKvBlockPositions != 0)) *
         block_bytes();
}

}  // namespace qeff
