// SPDX-License-Identifier: Apache-2.0
//
// Where the bytes of a packed integer weight matrix and of quantized
// activations are: what the packer (pack_int_weights.h), the kernels
// (matmul_int.h, quantize_activations.h) and a package reader agree on. Byte
// tables: README.md of this folder.

#ifndef QEFF_KERNELS_MATMUL_INT_PACKED_INT_LAYOUT_H_
#define QEFF_KERNELS_MATMUL_INT_PACKED_INT_LAYOUT_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "qeff/tensor/dtype.h"

namespace qeff {

// Rows of weights that are interleaved: two vectors of 16 sums of 32 bits.
inline constexpr int64_t kPanelRows = 32;
// Columns that activations are padded to: two words of four codes.
inline constexpr int64_t kUnitElems = 8;
// Tokens of the largest tile: 2 * 12 sums, 2 vectors of weights and a few
// temporaries fill the 32 registers of AVX-512.
inline constexpr int64_t kMaxTileTokens = 12;
// Columns that may share a scale: the sum of that many products of codes, each
// at most 127 * 128, still fits 31 bits. With zero points codes of 8 bits
// differ by up to 255 from them, and no sum on the way may overflow either.
inline constexpr int64_t kMaxGroupElems = int64_t{1} << 17;
inline constexpr int64_t kMaxAsymmetricInt8GroupElems = int64_t{1} << 15;

// Whether activations can have the fixed scale `scale`: it and its reciprocal
// are positive normal numbers. False for NaN.
constexpr bool IsActivationScale(float scale) {
  return scale >= 0x1p-126f && scale <= 0x1p126f;
}

// How the codes of a pruned matrix are stored: masks of bits and the values of
// those that are kept, see PackedIntLayout::Sparse.
struct SparseCodes {
  int64_t values_bytes = 0;  // of all values
  // Of each four columns of a row two are kept, and masks are pairs of indices.
  bool two_of_four = false;

  friend bool operator==(const SparseCodes& a, const SparseCodes& b) {
    return a.values_bytes == b.values_bytes && a.two_of_four == b.two_of_four;
  }
};
// Zeros behind the last value: what a kernel may read beyond it.
inline constexpr int64_t kSparseSlackBytes = 256;

// A matrix of [rows, cols] = [out features, in features] codes of 2, 3, 4 or 8
// bits with one scale for each `group_elems` consecutive columns of a row (the
// last group of a row may be shorter). W[r, c] = (code - zero) * scale, where
// zero is 2^(bits-1), or with `asymmetric` a byte for each scale.
// Made by Create only. Thread-compatible.
class PackedIntLayout {
 public:
  // `group_size` 0: one scale a row. Scales are kept in `scale_dtype`, as they
  // come, so that packing rounds nothing.
  // Errors: kInvalidArgument naming the field, unless bits is 2, 3, 4 or 8;
  // rows and cols are in [1, 2^31); group_size is 0, a multiple of 8, or at
  // least cols; the group has at most kMaxGroupElems or, with 8 bits and zero
  // points, kMaxAsymmetricInt8GroupElems; scale_dtype is F16, BF16 or F32.
  // Groups of step_elems() columns or a multiple of it waste no memory.
  static absl::StatusOr<PackedIntLayout> Create(int bits, int64_t rows,
                                                int64_t cols,
                                                int64_t group_size,
                                                DType scale_dtype,
                                                bool asymmetric = false);

  // The same matrix with compressed codes: what is stored is smaller, what is
  // multiplied are the same panels. Errors: kInvalidArgument unless bits is 4
  // or 8, and values_bytes is a multiple of 64 that such a matrix can have,
  // kSparseSlackBytes included, or with two_of_four what it must have.
  absl::StatusOr<PackedIntLayout> Sparse(const SparseCodes& codes) const;
  // The inverse.
  PackedIntLayout Dense() const;

  int bits() const { return bits_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t group_elems() const { return group_elems_; }  // at most cols
  DType scale_dtype() const { return scale_dtype_; }
  bool asymmetric() const { return asymmetric_; }
  bool sparse() const { return sparse_.values_bytes > 0; }
  const SparseCodes& sparse_codes() const { return sparse_; }

  int64_t groups() const;  // a row
  int64_t panels() const;  // ceil(rows / kPanelRows)
  // Columns of a step, the unit that the columns of a group are cut into: two
  // words of four codes, or as many as share words of memory.
  int64_t step_elems() const { return bits_ == 3 ? 32 : bits_ == 2 ? 16 : 8; }
  // Of one step of a panel, of the scales of one group of a panel, of all zero
  // points of a panel, of a panel, as they are multiplied. All are multiples of
  // 64.
  int64_t step_bytes() const { return kPanelRows * bits_ * step_elems() / 8; }
  int64_t scales_bytes() const;
  int64_t zeros_bytes() const;
  int64_t panel_bytes() const;
  // As the matrix is stored.
  int64_t total_bytes() const;

  // Where the three parts of a sparse matrix are, in bytes: a number of 64 bits
  // for each panel, unless two_of_four is set; the masks, scales and zero
  // points of each panel; the values.
  static constexpr int64_t kStepMaskBytes = kPanelRows * 8 / 8;  // of a step
  int64_t MasksOffset() const;
  int64_t panel_masks_bytes() const;
  int64_t ValuesOffset() const {
    return MasksOffset() + panels() * panel_masks_bytes();
  }
  // With two_of_four, the values of a step and of a panel.
  int64_t step_pairs_bytes() const { return step_bytes() / 2; }
  int64_t panel_pairs_bytes() const {
    return PanelSteps() * step_pairs_bytes();
  }

  // Columns of group `group` without and steps with padding.
  int64_t GroupCols(int64_t group) const;
  int64_t GroupSteps(int64_t group) const;

 private:
  PackedIntLayout() = default;

  int64_t PanelSteps() const;

  int bits_ = 0;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  int64_t group_elems_ = 0;
  DType scale_dtype_ = DType::kF32;
  bool asymmetric_ = false;
  SparseCodes sparse_;
};

// `tokens` rows of quantized activations that are to meet matrices with
// `cols` columns in groups of `group_elems`: the codes, one after another, of
// tiles of tokens whose sizes differ by at most one, then for each tile and
// group the sums of codes, then the scale of each token. Each of the three
// parts begins at a multiple of 64 bytes. Thread-compatible.
class ActivationLayout {
 public:
  // Preconditions (checked): tokens, cols and group_elems at least 1, and
  // below 2^31.
  ActivationLayout(int64_t tokens, int64_t cols, int64_t group_elems);
  // For products with such matrices.
  ActivationLayout(int64_t tokens, const PackedIntLayout& weights)
      : ActivationLayout(tokens, weights.cols(), weights.group_elems()) {}

  int64_t tokens() const { return tokens_; }
  int64_t cols() const { return cols_; }
  int64_t group_elems() const { return group_elems_; }
  int64_t groups() const;
  int64_t padded_cols() const;  // a multiple of kUnitElems

  // Whether products with such matrices are defined.
  bool Fits(const PackedIntLayout& weights) const {
    return cols_ == weights.cols() && group_elems_ == weights.group_elems();
  }

  int64_t tiles() const { return tiles_; }
  int64_t TileBegin(int64_t tile) const;  // the first token; tokens() at end
  int64_t TileTokens(int64_t tile) const {
    return TileBegin(tile + 1) - TileBegin(tile);
  }

  // Offsets in bytes. With n = TileTokens(tile):
  // code of token TileBegin(tile) + t, column c: CodesOffset(tile) +
  //   (c / 4 * n + t) * 4 + c % 4, int8; columns from cols() on are 0;
  // -8 times the sum of the codes of group g: SumsOffset(tile) + (g * n + t) *
  //   4, int32;
  // scale: ScalesOffset() + token * 4, float32.
  int64_t CodesOffset(int64_t tile) const;
  int64_t SumsOffset(int64_t tile) const;
  int64_t ScalesOffset() const;
  int64_t total_bytes() const;

 private:
  int64_t tokens_;
  int64_t cols_;
  int64_t group_elems_;
  int64_t tiles_;
};

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_INT_PACKED_INT_LAYOUT_H_
