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

  // Errors: kInvalidArgument unless rows and cols are in [1, 2^31) and the
  // packed matrix has at most 2^62 bytes.
  static absl::StatusOr<PackedBF16Layout> Create(int64_t rows, int64_t cols);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t pairs() const { return (cols_ + 1) / 2; }
  int64_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  int64_t panel_bytes() const { return pairs() * kPairBytes; }
  int64_t total_bytes() const { return panels() * panel_bytes(); }

  // Offset in bytes of the pair `pair` of row `row`: the element of column
  // 2 * pair, then that of column 2 * pair + 1.
  int64_t PairOffset(int64_t row, int64_t pair) const {
    return row / kPanelRows * panel_bytes() + pair * kPairBytes +
           row % kPanelRows * 4;
  }

 private:
  PackedBF16Layout(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {}

  int64_t rows_;
  int64_t cols_;
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
