// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/packed_int_layout.h"

#include <algorithm>
#include <cstdint>

#include "absl/status/statusor.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kCacheLineBytes = 64;
constexpr int64_t kMaxExtent = (int64_t{1} << 31) - 1;

bool IsExtent(int64_t n) { return n >= 1 && n <= kMaxExtent; }

}  // namespace

absl::StatusOr<PackedIntLayout> PackedIntLayout::Create(int bits, int64_t rows,
                                                        int64_t cols,
                                                        int64_t group_size,
                                                        DType scale_dtype,
                                                        bool asymmetric) {
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    return InvalidInputError(
        "packed weights: bits: expected 2, 3, 4 or 8, found ", bits);
  }
  if (!IsExtent(rows) || !IsExtent(cols)) {
    return InvalidInputError(
        "packed weights: shape: expected 1 to 2^31 - 1 rows and columns, "
        "found [",
        rows, ", ", cols, "]");
  }
  if (group_size < 0 || (group_size % kUnitElems != 0 && group_size < cols)) {
    return InvalidInputError("packed weights: group size: expected a multiple ",
                             "of ", kUnitElems, ", found ", group_size);
  }
  const int64_t group_elems =
      group_size == 0 ? cols : std::min(group_size, cols);
  const int64_t most =
      bits == 8 && asymmetric ? kMaxAsymmetricInt8GroupElems : kMaxGroupElems;
  if (group_elems > most) {
    return InvalidInputError("packed weights: group size: expected at most ",
                             most, ", found ", group_elems);
  }
  if (scale_dtype != DType::kF16 && scale_dtype != DType::kBF16 &&
      scale_dtype != DType::kF32) {
    return InvalidInputError(
        "packed weights: type of scales: expected F16, BF16 or F32, found ",
        DTypeName(scale_dtype));
  }
  PackedIntLayout layout;
  layout.bits_ = bits;
  layout.rows_ = rows;
  layout.cols_ = cols;
  layout.group_elems_ = group_elems;
  layout.scale_dtype_ = scale_dtype;
  layout.asymmetric_ = asymmetric;
  return layout;
}

int64_t PackedIntLayout::groups() const { return CeilDiv(cols_, group_elems_); }

int64_t PackedIntLayout::panels() const { return CeilDiv(rows_, kPanelRows); }

int64_t PackedIntLayout::scales_bytes() const {
  return kPanelRows * static_cast<int64_t>(DTypeBytes(scale_dtype_));
}

int64_t PackedIntLayout::zeros_bytes() const {
  return asymmetric_ ? RoundUp(groups() * kPanelRows, kCacheLineBytes) : 0;
}

int64_t PackedIntLayout::PanelSteps() const {
  return (groups() - 1) * GroupSteps(0) + GroupSteps(groups() - 1);
}

int64_t PackedIntLayout::panel_bytes() const {
  return PanelSteps() * step_bytes() + groups() * scales_bytes() +
         zeros_bytes();
}

int64_t PackedIntLayout::total_bytes() const {
  return sparse() ? ValuesOffset() + sparse_.values_bytes
                  : panels() * panel_bytes();
}

int64_t PackedIntLayout::MasksOffset() const {
  return sparse_.two_of_four ? 0 : RoundUp(panels() * 8, kCacheLineBytes);
}

int64_t PackedIntLayout::panel_masks_bytes() const {
  return RoundUp(PanelSteps() * kStepMaskBytes + groups() * scales_bytes(),
                 kCacheLineBytes) +
         zeros_bytes();
}

absl::StatusOr<PackedIntLayout> PackedIntLayout::Sparse(
    const SparseCodes& codes) const {
  if (bits_ != 4 && bits_ != 8) {
    return InvalidInputError("sparse weights: bits: expected 4 or 8, found ",
                             bits_);
  }
  const int64_t pairs = panels() * panel_pairs_bytes();
  const int64_t least = codes.two_of_four ? pairs : kSparseSlackBytes;
  const int64_t most =
      codes.two_of_four ? pairs : 2 * pairs + kSparseSlackBytes;
  if (codes.values_bytes < least || codes.values_bytes > most ||
      codes.values_bytes % kCacheLineBytes != 0) {
    return InvalidInputError("sparse weights: bytes of values: expected ",
                             least, " to ", most, " in steps of ",
                             kCacheLineBytes, ", found ", codes.values_bytes);
  }
  PackedIntLayout layout = *this;
  layout.sparse_ = codes;
  return layout;
}

PackedIntLayout PackedIntLayout::Dense() const {
  PackedIntLayout layout = *this;
  layout.sparse_ = SparseCodes();
  return layout;
}

int64_t PackedIntLayout::GroupCols(int64_t group) const {
  return std::min(group_elems_, cols_ - group * group_elems_);
}

int64_t PackedIntLayout::GroupSteps(int64_t group) const {
  return CeilDiv(GroupCols(group), step_elems());
}

ActivationLayout::ActivationLayout(int64_t tokens, int64_t cols,
                                   int64_t group_elems)
    : tokens_(tokens),
      cols_(cols),
      group_elems_(group_elems),
      tiles_(CeilDiv(tokens, kMaxTileTokens)) {
  QEFF_CHECK(IsExtent(tokens) && IsExtent(cols) && IsExtent(group_elems));
  QEFF_CHECK(group_elems % kUnitElems == 0 || group_elems >= cols);
}

int64_t ActivationLayout::groups() const {
  return CeilDiv(cols_, group_elems_);
}

int64_t ActivationLayout::padded_cols() const {
  return RoundUp(cols_, kUnitElems);
}

int64_t ActivationLayout::TileBegin(int64_t tile) const {
  // The first tokens % tiles tiles have one token more.
  return tile * (tokens_ / tiles_) + std::min(tile, tokens_ % tiles_);
}

int64_t ActivationLayout::CodesOffset(int64_t tile) const {
  return TileBegin(tile) * padded_cols();
}

int64_t ActivationLayout::SumsOffset(int64_t tile) const {
  return RoundUp(tokens_ * padded_cols(), kCacheLineBytes) +
         TileBegin(tile) * groups() * 4;
}

int64_t ActivationLayout::ScalesOffset() const {
  return RoundUp(SumsOffset(tiles_), kCacheLineBytes);
}

int64_t ActivationLayout::total_bytes() const {
  return RoundUp(ScalesOffset() + tokens_ * 4, kCacheLineBytes);
}

}  // namespace qeff
