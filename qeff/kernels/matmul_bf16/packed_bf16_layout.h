// SPDX-License-Identifier: Apache-2.0
//
// Where the elements of a packed bf16 weight matrix and of packed activations
// are: what the packers (pack_bf16_weights.h, pack_bf16_activations.h), the
// kernel (matmul_bf16.h) and a package reader agree on. Byte tables: README.md
// of this folder.

#ifndef QEFF_KERNELS_MATMUL_BF16_PACKED_BF16_LAYOUT_H_
#define QEFF_KERNELS_MATMUL_BF16_PACKED_BF16_LAYOUT_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace qeff {

// A matrix of [rows, cols] = [out features, in features], cut into panels of
// kPanelRows rows. A panel holds for each pair of columns the two elements of
// each of its rows. Made by Create only. Thread-compatible.
class PackedBF16Layout {
 public:
  // Two vectors of 16 float32 sums.
  static constexpr int64_t kPanelRows = 32;
  // One pair of each row of a panel: two cache lines.
  static constexpr int64_t kPairBytes = 4 * kPanelRows;
  // A bit for each element of a pair.
  static constexpr int64_t kPairMaskBytes = kPairBytes / 2 / 8;
  // Zeros behind the last value: what a kernel may read beyond it.
  static constexpr int64_t kSparseSlackBytes = kPairBytes;

  // Errors: kInvalidArgument unless rows and cols are in [1, 2^31) and the
  // packed matrix has at most 2^61 bytes.
  static absl::StatusOr<PackedBF16Layout> Create(int64_t rows, int64_t cols);

  // The same matrix without its zeros: what is stored is smaller, what is
  // multiplied are the same panels. `values_bytes` are those of the kept
  // elements with kSparseSlackBytes behind them. Errors: kInvalidArgument
  // unless that is a multiple of 64 that such a matrix can have.
  absl::StatusOr<PackedBF16Layout> Sparse(int64_t values_bytes) const;
  // The inverse.
  PackedBF16Layout Dense() const { return PackedBF16Layout(rows_, cols_); }

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t pairs() const { return (cols_ + 1) / 2; }
  int64_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  bool sparse() const { return values_bytes_ > 0; }
  int64_t values_bytes() const { return values_bytes_; }

  // As it is multiplied.
  int64_t panel_bytes() const { return pairs() * kPairBytes; }
  // As the matrix is stored.
  int64_t total_bytes() const {
    return sparse() ? ValuesOffset() + values_bytes_ : panels() * panel_bytes();
  }

  // Where the three parts of a sparse matrix are, in bytes: for each panel a
  // number of 64 bits, where its values begin; the masks of each panel; the
  // values.
  int64_t MasksOffset() const;
  int64_t panel_masks_bytes() const;
  int64_t ValuesOffset() const {
    return MasksOffset() + panels() * panel_masks_bytes();
  }

  // Offset in bytes of the pair `pair` of row `row` if dense: the element of
  // column 2 * pair, then that of column 2 * pair + 1.
  int64_t PairOffset(int64_t row, int64_t pair) const {
    return row / kPanelRows * panel_bytes() + pair * kPairBytes +
           row % kPanelRows * 4;
  }

 private:
  PackedBF16Layout(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {}

  int64_t rows_;
  int64_t cols_;
  int64_t values_bytes_ = 0;  // 0: dense
};

// `tokens` rows of `cols` activations in bf16, cut into tiles of consecutive
// tokens whose sizes differ by at most one. A tile holds for each pair of
// columns the two elements of each of its tokens. Thread-compatible.
class BF16ActivationLayout {
 public:
  // Tokens of the largest tile: 2 * 12 sums, 2 vectors of weights and a few
  // temporaries fill the 32 registers of AVX-512.
  static constexpr int64_t kMaxTileTokens = 12;

  // Preconditions (checked): tokens and cols in [1, 2^31).
  BF16ActivationLayout(int64_t tokens, int64_t cols);

  int64_t tokens() const { return tokens_; }
  int64_t cols() const { return cols_; }
  int64_t pairs() const { return (cols_ + 1) / 2; }
  int64_t total_bytes() const { return tokens_ * pairs() * 4; }

  int64_t tiles() const { return tiles_; }
  // The first token of `tile`; tokens() for tiles().
  int64_t TileBegin(int64_t tile) const;
  int64_t TileTokens(int64_t tile) const {
    return TileBegin(tile + 1) - TileBegin(tile);
  }

  // Offset in bytes of a tile. Pair `pair` of its token `t` is at
  // (pair * TileTokens(tile) + t) * 4 from there.
  int64_t TileOffset(int64_t tile) const {
    return TileBegin(tile) * pairs() * 4;
  }

 private:
  int64_t tokens_;
  int64_t cols_;
  int64_t tiles_;
};

}  // namespace qeff

#endif  // QEFF_KERNELS_MATMUL_BF16_PACKED_BF16_LAYOUT_H_
