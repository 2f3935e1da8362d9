// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/pack_int_weights.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/types/span.h"
#include "qeff/format/packing.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Calls place(column, offset in the panel, shift) for each column of row `row`
// of a panel, padding included: its code is at bits `shift` and up of that
// byte.
template <typename Place>
void ForEachPlace(const PackedIntLayout& layout, int64_t row,
                  const Place& place) {
  int64_t offset = row * 4;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    for (int64_t s = 0; s < layout.GroupSteps(g); ++s) {
      const int64_t col = g * layout.group_elems() + s * kStepElems;
      for (int64_t i = 0; i < kStepElems; ++i) {
        const bool second = i >= 4;
        if (layout.bits() == 4) {
          place(col + i, offset + i % 4, second ? 4 : 0);
        } else {
          place(col + i, offset + i % 4 + (second ? kPanelRows * 4 : 0), 0);
        }
      }
      offset += layout.step_bytes();
    }
    offset += layout.scales_bytes();
  }
}

// Calls place(group, offset in the panel) for each scale of row `row`.
template <typename Place>
void ForEachScale(const PackedIntLayout& layout, int64_t row,
                  const Place& place) {
  const int64_t scale_bytes = layout.scales_bytes() / kPanelRows;
  int64_t offset = row * scale_bytes;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    offset += layout.GroupSteps(g) * layout.step_bytes();
    place(g, offset);
    offset += layout.scales_bytes();
  }
}

}  // namespace

void PackIntWeights(const PackedIntLayout& layout,
                    const QuantizedRowsView& rows, int64_t panel_begin,
                    int64_t panel_count, absl::Span<uint8_t> packed) {
  const int64_t row_bytes = 4 * PackedWords(layout.bits(), layout.cols());
  const int64_t scale_bytes = layout.scales_bytes() / kPanelRows;
  QEFF_CHECK(rows.bits == layout.bits() && rows.cols == layout.cols() &&
             std::min(rows.group_elems, rows.cols) == layout.group_elems() &&
             rows.scale_dtype == layout.scale_dtype() && rows.zeros.empty());
  QEFF_CHECK(static_cast<int64_t>(rows.packed.size()) ==
                 layout.rows() * row_bytes &&
             static_cast<int64_t>(rows.scales.size()) ==
                 layout.rows() * layout.groups() * scale_bytes);
  QEFF_CHECK(panel_begin >= 0 && panel_count >= 0 &&
             panel_begin + panel_count <= layout.panels() &&
             static_cast<int64_t>(packed.size()) ==
                 panel_count * layout.panel_bytes());
  std::memset(packed.data(), 0, packed.size());
  const uint8_t zero_code = static_cast<uint8_t>(1 << (layout.bits() - 1));
  std::vector<uint8_t> codes(static_cast<size_t>(layout.cols()));
  for (int64_t i = 0; i < panel_count * kPanelRows; ++i) {
    uint8_t* panel = packed.data() + i / kPanelRows * layout.panel_bytes();
    const int64_t row = panel_begin * kPanelRows + i;
    const bool inside = row < layout.rows();
    if (inside) {
      UnpackCodes(layout.bits(),
                  rows.packed.subspan(static_cast<size_t>(row * row_bytes),
                                      static_cast<size_t>(row_bytes)),
                  absl::MakeSpan(codes));
    }
    ForEachPlace(layout, i % kPanelRows,
                 [&](int64_t col, int64_t offset, int shift) {
                   const uint8_t code = inside && col < layout.cols()
                                            ? codes[static_cast<size_t>(col)]
                                            : zero_code;
                   panel[offset] |= static_cast<uint8_t>(code << shift);
                 });
    if (!inside) continue;
    const uint8_t* scales =
        rows.scales.data() + row * layout.groups() * scale_bytes;
    ForEachScale(layout, i % kPanelRows, [&](int64_t group, int64_t offset) {
      std::memcpy(panel + offset, scales + group * scale_bytes,
                  static_cast<size_t>(scale_bytes));
    });
  }
}

void UnpackIntWeights(const PackedIntLayout& layout,
                      absl::Span<const uint8_t> packed,
                      const UnpackedIntWeights& to) {
  const int64_t scale_bytes = layout.scales_bytes() / kPanelRows;
  QEFF_CHECK(static_cast<int64_t>(packed.size()) == layout.total_bytes());
  QEFF_CHECK(static_cast<int64_t>(to.codes.size()) ==
                 layout.rows() * layout.cols() &&
             static_cast<int64_t>(to.scales.size()) ==
                 layout.rows() * layout.groups() * scale_bytes);
  const int mask = (1 << layout.bits()) - 1;
  for (int64_t row = 0; row < layout.rows(); ++row) {
    const uint8_t* panel =
        packed.data() + row / kPanelRows * layout.panel_bytes();
    uint8_t* codes = to.codes.data() + row * layout.cols();
    ForEachPlace(
        layout, row % kPanelRows, [&](int64_t col, int64_t offset, int shift) {
          if (col >= layout.cols()) return;
          codes[col] = static_cast<uint8_t>((panel[offset] >> shift) & mask);
        });
    uint8_t* scales = to.scales.data() + row * layout.groups() * scale_bytes;
    ForEachScale(layout, row % kPanelRows, [&](int64_t group, int64_t offset) {
      std::memcpy(scales + group * scale_bytes, panel + offset,
                  static_cast<size_t>(scale_bytes));
    });
  }
}

}  // namespace qeff
