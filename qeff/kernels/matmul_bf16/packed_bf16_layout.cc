// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"

#include <algorithm>
#include <cstdint>

#include "absl/status/statusor.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kMaxExtent = (int64_t{1} << 31) - 1;
constexpr int64_t kMaxTotalBytes = int64_t{1} << 61;
constexpr int64_t kVectorBytes = 64;

bool IsExtent(int64_t n) { return n >= 1 && n <= kMaxExtent; }

}  // namespace

absl::StatusOr<PackedBF16Layout> PackedBF16Layout::Create(int64_t rows,
                                                          int64_t cols) {
  if (!IsExtent(rows) || !IsExtent(cols)) {
    return InvalidInputError(
        "packed bf16 weights: shape: expected 1 to 2^31 - 1 rows and columns, "
        "found [",
        rows, ", ", cols, "]");
  }
  const PackedBF16Layout layout(rows, cols);
  if (layout.panels() > kMaxTotalBytes / layout.panel_bytes()) {
    return InvalidInputError(
        "packed bf16 weights: shape: expected at most 2^61 bytes, found [",
        rows, ", ", cols, "]");
  }
  return layout;
}

absl::StatusOr<PackedBF16Layout> PackedBF16Layout::Sparse(
    int64_t values_bytes) const {
  const int64_t most = panels() * panel_bytes() + kSparseSlackBytes;
  if (values_bytes < kSparseSlackBytes || values_bytes > most ||
      values_bytes % kVectorBytes != 0) {
    return InvalidInputError(
        "sparse bf16 weights: bytes of values: expected a multiple of 64 from ",
        kSparseSlackBytes, " to ", most, ", found ", values_bytes);
  }
  PackedBF16Layout sparse = Dense();
  sparse.values_bytes_ = values_bytes;
  return sparse;
}

int64_t PackedBF16Layout::MasksOffset() const {
  return RoundUp(8 * panels(), kVectorBytes);
}

int64_t PackedBF16Layout::panel_masks_bytes() const {
  return RoundUp(pairs() * kPairMaskBytes, kVectorBytes);
}

BF16ActivationLayout::BF16ActivationLayout(int64_t tokens, int64_t cols)
    : tokens_(tokens),
      cols_(cols),
      tiles_((tokens + kMaxTileTokens - 1) / kMaxTileTokens) {
  QEFF_CHECK(IsExtent(tokens) && IsExtent(cols));
}

int64_t BF16ActivationLayout::TileBegin(int64_t tile) const {
  // The first tokens % tiles tiles have one token more.
  return tile * (tokens_ / tiles_) + std::min(tile, tokens_ % tiles_);
}

}  // namespace qeff
