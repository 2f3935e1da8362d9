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

// Some bits of a code: those from `code_shift` on are at bit `shift` and up of
// the byte at `offset` of the panel.
struct Field {
  int64_t offset;
  int shift;
  int code_shift;
  int bits;

  uint8_t Put(int code) const {
    return static_cast<uint8_t>(((code >> code_shift) & ((1 << bits) - 1))
                                << shift);
  }
  int Get(uint8_t byte) const {
    return ((byte >> shift) & ((1 << bits) - 1)) << code_shift;
  }
};

// Calls place(field) for the code of column `i` of the step at `offset`.
template <typename Place>
void ForEachField(int bits, int64_t offset, int64_t i, const Place& place) {
  const int64_t byte = offset + i % 4;
  const int word = static_cast<int>(i / 4);
  if (bits == 8) {
    place(Field{byte + word * kPanelRows * 4, 0, 0, 8});
  } else if (bits == 3) {
    place(Field{byte + word / 4 * kPanelRows * 4, word % 4 * 2, 0, 2});
    place(Field{byte + 2 * kPanelRows * 4, word, 2, 1});
  } else {
    place(Field{byte, word * bits, 0, bits});
  }
}

// Calls place(column, field) for each field of row `row` of a panel. For the
// padding of a group the column is -1.
template <typename Place>
void ForEachPlace(const PackedIntLayout& layout, int64_t row,
                  const Place& place) {
  int64_t offset = row * 4;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const int64_t begin = g * layout.group_elems();
    const int64_t cols = layout.GroupCols(g);
    for (int64_t s = 0; s < layout.GroupSteps(g); ++s) {
      for (int64_t i = 0; i < layout.step_elems(); ++i) {
        const int64_t col = s * layout.step_elems() + i;
        ForEachField(layout.bits(), offset, i, [&](const Field& field) {
          place(col < cols ? begin + col : -1, field);
        });
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

// Offset in the panel of the zero point of row `row` and group 0; those of the
// next groups are kPanelRows bytes apart.
int64_t ZerosOffset(const PackedIntLayout& layout, int64_t row) {
  return layout.panel_bytes() - layout.zeros_bytes() + row;
}

// Row `row` of a panel that holds 0: codes, or those of 0 where there are none.
void PackRow(const PackedIntLayout& layout, absl::Span<const uint8_t> codes,
             int64_t row, uint8_t* panel) {
  const int zero_code = 1 << (layout.bits() - 1);
  ForEachPlace(layout, row, [&](int64_t col, const Field& field) {
    const int code = col >= 0 && !codes.empty()
                         ? codes[static_cast<size_t>(col)]
                         : zero_code;
    panel[field.offset] |= field.Put(code);
  });
}

// Scales and zero points of the row `from` of `rows`.
void PackParameters(const PackedIntLayout& layout,
                    const QuantizedRowsView& rows, int64_t from, int64_t row,
                    uint8_t* panel) {
  const int64_t scale_bytes = layout.scales_bytes() / kPanelRows;
  const int64_t first = from * layout.groups();
  const uint8_t* scales = rows.scales.data() + first * scale_bytes;
  ForEachScale(layout, row, [&](int64_t group, int64_t offset) {
    std::memcpy(panel + offset, scales + group * scale_bytes,
                static_cast<size_t>(scale_bytes));
    if (layout.asymmetric()) {
      panel[ZerosOffset(layout, row) + group * kPanelRows] =
          rows.zeros[static_cast<size_t>(first + group)];
    }
  });
}

}  // namespace

void PackIntWeights(const PackedIntLayout& layout,
                    const QuantizedRowsView& rows, int64_t panel_begin,
                    int64_t panel_count, absl::Span<uint8_t> packed) {
  const int64_t row_bytes = 4 * PackedWords(layout.bits(), layout.cols());
  const int64_t scale_bytes = layout.scales_bytes() / kPanelRows;
  QEFF_CHECK(rows.bits == layout.bits() && rows.cols == layout.cols() &&
             std::min(rows.group_elems, rows.cols) == layout.group_elems() &&
             rows.scale_dtype == layout.scale_dtype());
  QEFF_CHECK(static_cast<int64_t>(rows.packed.size()) ==
                 layout.rows() * row_bytes &&
             static_cast<int64_t>(rows.scales.size()) ==
                 layout.rows() * layout.groups() * scale_bytes &&
             static_cast<int64_t>(rows.zeros.size()) ==
                 (layout.asymmetric() ? layout.rows() * layout.groups() : 0));
  QEFF_CHECK(panel_begin >= 0 && panel_count >= 0 &&
             panel_begin + panel_count <= layout.panels() &&
             static_cast<int64_t>(packed.size()) ==
                 panel_count * layout.panel_bytes());
  std::memset(packed.data(), 0, packed.size());
  std::vector<uint8_t> codes(static_cast<size_t>(layout.cols()));
  for (int64_t i = 0; i < panel_count * kPanelRows; ++i) {
    uint8_t* panel = packed.data() + i / kPanelRows * layout.panel_bytes();
    const int64_t row = panel_begin * kPanelRows + i;
    if (row >= layout.rows()) {
      PackRow(layout, {}, i % kPanelRows, panel);
      continue;
    }
    UnpackCodes(layout.bits(),
                rows.packed.subspan(static_cast<size_t>(row * row_bytes),
                                    static_cast<size_t>(row_bytes)),
                absl::MakeSpan(codes));
    PackRow(layout, codes, i % kPanelRows, panel);
    PackParameters(layout, rows, row, i % kPanelRows, panel);
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
                 layout.rows() * layout.groups() * scale_bytes &&
             static_cast<int64_t>(to.zeros.size()) ==
                 (layout.asymmetric() ? layout.rows() * layout.groups() : 0));
  if (!to.codes.empty()) std::memset(to.codes.data(), 0, to.codes.size());
  for (int64_t row = 0; row < layout.rows(); ++row) {
    const uint8_t* panel =
        packed.data() + row / kPanelRows * layout.panel_bytes();
    uint8_t* codes = to.codes.data() + row * layout.cols();
    ForEachPlace(layout, row % kPanelRows, [&](int64_t col, const Field& f) {
      if (col >= 0) codes[col] |= static_cast<uint8_t>(f.Get(panel[f.offset]));
    });
    const int64_t first = row * layout.groups();
    uint8_t* scales = to.scales.data() + first * scale_bytes;
    ForEachScale(layout, row % kPanelRows, [&](int64_t group, int64_t offset) {
      std::memcpy(scales + group * scale_bytes, panel + offset,
                  static_cast<size_t>(scale_bytes));
      if (layout.asymmetric()) {
        to.zeros[static_cast<size_t>(first + group)] =
            panel[ZerosOffset(layout, row % kPanelRows) + group * kPanelRows];
      }
    });
  }
}

}  // namespace qeff
