// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/pack_bf16_weights.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Bytes of pair `pair` that are in the matrix: 4, or 2 for an odd last column.
size_t PairBytes(const PackedBF16Layout& layout, int64_t pair) {
  return static_cast<size_t>(
      std::min<int64_t>(4, 2 * layout.cols() - 4 * pair));
}

}  // namespace

void PackBF16Weights(const PackedBF16Layout& layout,
                     absl::Span<const uint8_t> weights, int64_t panel_begin,
                     int64_t panel_count, absl::Span<uint8_t> packed) {
  constexpr int64_t kPanelRows = PackedBF16Layout::kPanelRows;
  const int64_t row_bytes = 2 * layout.cols();
  QEFF_CHECK(static_cast<int64_t>(weights.size()) == layout.rows() * row_bytes);
  QEFF_CHECK(panel_begin >= 0 && panel_count >= 0 &&
             panel_begin + panel_count <= layout.panels() &&
             static_cast<int64_t>(packed.size()) ==
                 panel_count * layout.panel_bytes());
  if (packed.empty()) return;
  std::memset(packed.data(), 0, packed.size());
  const int64_t row_begin = panel_begin * kPanelRows;
  const int64_t row_end =
      std::min(layout.rows(), (panel_begin + panel_count) * kPanelRows);
  const int64_t origin = layout.PairOffset(row_begin, 0);
  for (int64_t row = row_begin; row < row_end; ++row) {
    const uint8_t* from = weights.data() + row * row_bytes;
    for (int64_t pair = 0; pair < layout.pairs(); ++pair) {
      std::memcpy(packed.data() + layout.PairOffset(row, pair) - origin,
                  from + 4 * pair, PairBytes(layout, pair));
    }
  }
}

void UnpackBF16Weights(const PackedBF16Layout& layout,
                       absl::Span<const uint8_t> packed,
                       absl::Span<uint8_t> weights) {
  const int64_t row_bytes = 2 * layout.cols();
  QEFF_CHECK(static_cast<int64_t>(packed.size()) == layout.total_bytes() &&
             static_cast<int64_t>(weights.size()) == layout.rows() * row_bytes);
  for (int64_t row = 0; row < layout.rows(); ++row) {
    uint8_t* to = weights.data() + row * row_bytes;
    for (int64_t pair = 0; pair < layout.pairs(); ++pair) {
      std::memcpy(to + 4 * pair, packed.data() + layout.PairOffset(row, pair),
                  PairBytes(layout, pair));
    }
  }
}

}  // namespace qeff
