// SPDX-License-Identifier: Apache-2.0
//
// Where the bytes of cached keys and values are: what StoreKv writes, Attend
// reads, and the owner of the memory plans with. Byte tables: README.md of this
// folder.

#ifndef QEFF_KERNELS_ATTENTION_KV_LAYOUT_H_
#define QEFF_KERNELS_ATTENTION_KV_LAYOUT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/checked.h"

namespace qeff {

// Positions of a block: two vectors of 16 scores.
inline constexpr int64_t kKvBlockPositions = 32;

// The cache of one key-value head of one layer and sequence: a region of
// consecutive blocks, each with the keys and values of kKvBlockPositions
// positions. A region of n positions is the beginning of one of more. A block:
//
//   keys          [head_dim][32]               transposed: scores vectorize
//                                              over positions
//   key scales    [32] float32                 kI8 only
//   values        [32][value_stride_elems]     sums vectorize over head_dim
//   value scales  [32] float32                 kI8 only
//
// Keys and values are float32, f16 or int8 with one scale a position; each part
// begins at a multiple of 64 bytes, of regions that do. What lies between is
// not read. Made by Create only. Thread-compatible.
class KvLayout {
 public:
  // Errors: kInvalidArgument naming the field, unless dtype is F32, F16 or I8
  // and head_dim is from 1 to 2^16.
  static absl::StatusOr<KvLayout> Create(DType dtype, int64_t head_dim);

  DType dtype() const { return dtype_; }
  int64_t head_dim() const { return head_dim_; }
  // head_dim rounded up to 16; the elements after head_dim are 0.
  int64_t value_stride_elems() const { return value_stride_elems_; }

  // Offsets in a block. Those of scales are meaningless without them.
  int64_t KeyOffset(int64_t dim, int64_t position) const {
    return (dim * kKvBlockPositions + position) * elem_bytes_;
  }
  int64_t key_scales_offset() const { return key_scales_offset_; }
  int64_t values_offset() const { return values_offset_; }
  int64_t value_row_bytes() const { return value_stride_elems_ * elem_bytes_; }
  int64_t value_scales_offset() const { return value_scales_offset_; }
  int64_t block_bytes() const { return block_bytes_; }  // a multiple of 64

  // Of a region for `positions` positions; invalid when it cannot be
  // represented.
  CheckedU64 RegionBytes(int64_t positions) const;

 private:
  KvLayout(DType dtype, int64_t head_dim);

  DType dtype_;
  int64_t head_dim_;
  int64_t elem_bytes_;
  int64_t value_stride_elems_;
  int64_t key_scales_offset_;
  int64_t values_offset_;
  int64_t value_scales_offset_;
  int64_t block_bytes_;
};

}  // namespace qeff

#endif  // QEFF_KERNELS_ATTENTION_KV_LAYOUT_H_
