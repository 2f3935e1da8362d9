// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/sparse_int_weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "qeff/format/sparse_mask.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {
namespace {

constexpr int64_t kVectorBytes = 64;
constexpr int kVectorRows = 16;
constexpr int kMaxStreams = 2;  // of 4-bit values: low and high halves of bytes

// The codes under one mask: for 8 bits a vector of a step, for 4 bits its low
// or its high halves. Minus, by exclusive or, the code of 0.
class MaskedCodes {
 public:
  // `zeros` are the zero points of the panel and group, or null.
  MaskedCodes(const PackedIntLayout& layout, const uint8_t* zeros)
      : bits_(layout.bits()) {
    for (int64_t row = 0; row < kPanelRows; ++row) {
      const int zero = zeros == nullptr ? 1 << (bits_ - 1) : zeros[row];
      zeros_[row] = static_cast<uint8_t>(zero & ((1 << bits_) - 1));
    }
  }

  // Mask `index` of the step at `step`.
  void Get(const uint8_t* step, int64_t index, uint8_t* elements) const {
    const uint8_t* from = step + VectorOf(index) * kVectorBytes;
    for (int64_t i = 0; i < kVectorBytes; ++i) {
      elements[i] = static_cast<uint8_t>(((from[i] >> Shift(index)) & Bits()) ^
                                         Zero(index, i));
    }
  }
  // Writes over what is there.
  void Put(const uint8_t* elements, int64_t index, uint8_t* step) const {
    uint8_t* to = step + VectorOf(index) * kVectorBytes;
    for (int64_t i = 0; i < kVectorBytes; ++i) {
      const int code = (elements[i] & Bits()) ^ Zero(index, i);
      to[i] = static_cast<uint8_t>((to[i] & ~(Bits() << Shift(index))) |
                                   code << Shift(index));
    }
  }

 private:
  int64_t VectorOf(int64_t index) const {
    return bits_ == 8 ? index : index / 2;
  }
  int Shift(int64_t index) const {
    return bits_ == 8 || index % 2 == 0 ? 0 : 4;
  }
  int Bits() const { return (1 << bits_) - 1; }
  // A vector is four codes of each of 16 rows.
  int Zero(int64_t index, int64_t i) const {
    return zeros_[VectorOf(index) % 2 * 16 + i / 4];
  }

  int bits_;
  uint8_t zeros_[kPanelRows];
};

// Calls step(codes, first byte of the step in the panel, of its masks) for
// every step, and scales(offset in the panel, in the masks' part) for every
// group.
template <typename Step, typename Scales>
void ForEachStep(const PackedIntLayout& layout, const uint8_t* zeros,
                 const Step& step, const Scales& scales) {
  int64_t offset = 0, mask_offset = 0;
  for (int64_t g = 0; g < layout.groups(); ++g) {
    const MaskedCodes codes(
        layout, layout.asymmetric() ? zeros + g * kPanelRows : nullptr);
    for (int64_t s = 0; s < layout.GroupSteps(g); ++s) {
      step(codes, offset, mask_offset);
      offset += layout.step_bytes();
      mask_offset += PackedIntLayout::kStepMaskBytes;
    }
    scales(offset, mask_offset);
    offset += layout.scales_bytes();
    mask_offset += layout.scales_bytes();
  }
}

constexpr int64_t kStepMasks = PackedIntLayout::kStepMaskBytes / 8;

// Of a panel.
struct Kept {
  int64_t values = 0;  // bytes
  bool pairs = true;   // at most two of four columns
  int64_t streams[kMaxStreams] = {};
};

Kept CountKept(const PackedIntLayout& layout, const uint8_t* panel) {
  Kept kept;
  const uint8_t* zeros = panel + layout.panel_bytes() - layout.zeros_bytes();
  ForEachStep(
      layout, zeros,
      [&](const MaskedCodes& codes, int64_t offset, int64_t /*masks*/) {
        for (int64_t i = 0; i < kStepMasks; ++i) {
          uint8_t elements[kMaskElems];
          codes.Get(panel + offset, i, elements);
          const uint64_t mask = MaskOf<uint8_t>(absl::MakeConstSpan(elements));
          for (int row = 0; row < kVectorRows; ++row) {
            kept.pairs &= KeptElems(mask >> (4 * row) & 15) <= 2;
          }
          const int count = KeptElems(mask);
          kept.streams[layout.bits() == 8 ? 0 : i % 2] += count;
        }
      },
      [](int64_t, int64_t) {});
  kept.values = std::max(kept.streams[0], kept.streams[1]);
  return kept;
}

std::vector<Kept> CountAll(const PackedIntLayout& dense,
                           absl::Span<const uint8_t> packed, ThreadPool* pool) {
  QEFF_CHECK(!dense.sparse() &&
             static_cast<int64_t>(packed.size()) == dense.total_bytes());
  std::vector<Kept> kept(static_cast<size_t>(dense.panels()));
  pool->ParallelFor(
      dense.panels(), 1, [&](int64_t begin, int64_t end, int /*thread*/) {
        for (int64_t p = begin; p < end; ++p) {
          kept[static_cast<size_t>(p)] =
              CountKept(dense, packed.data() + p * dense.panel_bytes());
        }
      });
  return kept;
}

// Where the indices of row `row` of a vector are in the 16 bytes of all: what
// the kernels have to shift is in the same 64 bits.
int64_t IndexPlace(int64_t row) {
  return row / 2 % 2 * 8 + row / 4 * 2 + row % 2;
}

// The masks of vector `v` of a step, for the first and the last four columns.
int64_t MaskIndex(const PackedIntLayout& layout, int64_t v, int64_t word) {
  return layout.bits() == 8 ? 2 * word + v : 2 * v + word;
}

// With two_of_four, the values and indices of a step.
void CompressPairs(const PackedIntLayout& layout, const MaskedCodes& codes,
                   const uint8_t* step, uint8_t* indices, uint8_t* values) {
  for (int64_t v = 0; v < 2; ++v) {
    for (int64_t word = 0; word < 2; ++word) {
      uint8_t elements[kMaskElems];
      codes.Get(step, MaskIndex(layout, v, word), elements);
      for (int64_t row = 0; row < kVectorRows; ++row) {
        const uint64_t mask = MaskOf<uint8_t>(
            absl::MakeConstSpan(elements + 4 * row, 4), /*min_kept=*/2);
        int64_t at = 2 * word;
        for (int i = 0; i < 4; ++i) {
          if ((mask >> i & 1) == 0) continue;
          QEFF_CHECK(at < 2 * word + 2);
          indices[16 * v + IndexPlace(row)] |=
              static_cast<uint8_t>(i << (2 * at));
          values[(layout.bits() == 8 ? v * kVectorBytes : 0) + 4 * row + at] |=
              static_cast<uint8_t>(elements[4 * row + i]
                                   << (layout.bits() == 8 ? 0 : 4 * v));
          ++at;
        }
      }
    }
  }
}

// The inverse.
void ExpandPairs(const PackedIntLayout& layout, const MaskedCodes& codes,
                 const uint8_t* indices, const uint8_t* values, uint8_t* step) {
  for (int64_t v = 0; v < 2; ++v) {
    for (int64_t word = 0; word < 2; ++word) {
      uint8_t elements[kMaskElems] = {};
      for (int64_t row = 0; row < kVectorRows; ++row) {
        for (int64_t at = 2 * word; at < 2 * word + 2; ++at) {
          const int index = indices[16 * v + IndexPlace(row)] >> (2 * at) & 3;
          const int64_t vector = layout.bits() == 8 ? v * kVectorBytes : 0;
          elements[4 * row + index] =
              static_cast<uint8_t>(values[vector + 4 * row + at] >>
                                   (layout.bits() == 8 ? 0 : 4 * v));
        }
      }
      codes.Put(elements, MaskIndex(layout, v, word), step);
    }
  }
}

// One panel; `masks` and `values` are its parts.
void CompressPanel(const PackedIntLayout& layout, const uint8_t* panel,
                   uint8_t* masks, absl::Span<uint8_t> values) {
  size_t next[kMaxStreams] = {};
  const uint8_t* zeros = panel + layout.panel_bytes() - layout.zeros_bytes();
  std::memcpy(masks + layout.panel_masks_bytes() - layout.zeros_bytes(), zeros,
              static_cast<size_t>(layout.zeros_bytes()));
  ForEachStep(
      layout, zeros,
      [&](const MaskedCodes& codes, int64_t offset, int64_t mask_offset) {
        if (layout.sparse_codes().two_of_four) {
          CompressPairs(layout, codes, panel + offset, masks + mask_offset,
                        values.data() + next[0]);
          next[0] += static_cast<size_t>(layout.step_pairs_bytes());
          return;
        }
        for (int64_t i = 0; i < kStepMasks; ++i) {
          uint8_t elements[kMaskElems], kept[kMaskElems];
          codes.Get(panel + offset, i, elements);
          const uint64_t mask = MaskOf<uint8_t>(absl::MakeConstSpan(elements));
          std::memcpy(masks + mask_offset + 8 * i, &mask, sizeof(mask));
          const int count =
              Compress<uint8_t>(mask, absl::MakeConstSpan(elements), kept);
          const bool high = layout.bits() == 4 && i % 2 == 1;
          size_t& at = next[high ? 1 : 0];
          QEFF_CHECK(at + static_cast<size_t>(count) <= values.size());
          for (int k = 0; k < count; ++k) {
            values[at++] |= static_cast<uint8_t>(kept[k] << (high ? 4 : 0));
          }
        }
      },
      [&](int64_t offset, int64_t mask_offset) {
        std::memcpy(masks + mask_offset, panel + offset,
                    static_cast<size_t>(layout.scales_bytes()));
      });
}

void ExpandPanel(const PackedIntLayout& layout, const uint8_t* masks,
                 absl::Span<const uint8_t> values, uint8_t* panel) {
  size_t next[kMaxStreams] = {};
  const uint8_t* zeros =
      masks + layout.panel_masks_bytes() - layout.zeros_bytes();
  ForEachStep(
      layout, zeros,
      [&](const MaskedCodes& codes, int64_t offset, int64_t mask_offset) {
        if (layout.sparse_codes().two_of_four) {
          ExpandPairs(layout, codes, masks + mask_offset,
                      values.data() + next[0], panel + offset);
          next[0] += static_cast<size_t>(layout.step_pairs_bytes());
          return;
        }
        for (int64_t i = 0; i < kStepMasks; ++i) {
          uint64_t mask;
          std::memcpy(&mask, masks + mask_offset + 8 * i, sizeof(mask));
          const bool high = layout.bits() == 4 && i % 2 == 1;
          size_t& at = next[high ? 1 : 0];
          uint8_t elements[kMaskElems], kept[kMaskElems] = {};
          for (int k = 0; k < KeptElems(mask) && at < values.size(); ++k) {
            kept[k] = static_cast<uint8_t>(values[at++] >> (high ? 4 : 0));
          }
          Expand<uint8_t>(mask, kept, absl::MakeSpan(elements));
          codes.Put(elements, i, panel + offset);
        }
      },
      [&](int64_t offset, int64_t mask_offset) {
        std::memcpy(panel + offset, masks + mask_offset,
                    static_cast<size_t>(layout.scales_bytes()));
      });
  std::memcpy(panel + layout.panel_bytes() - layout.zeros_bytes(), zeros,
              static_cast<size_t>(layout.zeros_bytes()));
}

}  // namespace

absl::optional<PackedIntLayout> SparseLayoutOf(const PackedIntLayout& layout,
                                               absl::Span<const uint8_t> packed,
                                               ThreadPool* pool) {
  if (layout.bits() != 4 && layout.bits() != 8) return absl::nullopt;
  bool pairs = true;
  int64_t values = kSparseSlackBytes;
  for (const Kept& kept : CountAll(layout, packed, pool)) {
    values += kept.values;
    pairs &= kept.pairs;
  }
  const PackedIntLayout any =
      *layout.Sparse({RoundUp(values, kVectorBytes), false});
  if (!pairs) return any;
  const PackedIntLayout two_of_four =
      *layout.Sparse({layout.panels() * layout.panel_pairs_bytes(), true});
  const int64_t more = two_of_four.total_bytes() - any.total_bytes();
  return more <= any.total_bytes() / 8 ? two_of_four : any;
}

void CompressIntWeights(const PackedIntLayout& sparse,
                        absl::Span<const uint8_t> packed,
                        absl::Span<uint8_t> bytes, ThreadPool* pool) {
  QEFF_CHECK(sparse.sparse() &&
             static_cast<int64_t>(bytes.size()) == sparse.total_bytes());
  std::memset(bytes.data(), 0, bytes.size());
  const bool pairs = sparse.sparse_codes().two_of_four;
  std::vector<uint64_t> ends;
  uint64_t end = 0;
  for (const Kept& kept : CountAll(sparse.Dense(), packed, pool)) {
    const size_t panel = ends.size();
    if (!pairs) std::memcpy(bytes.data() + 8 * panel, &end, sizeof(end));
    end +=
        static_cast<uint64_t>(pairs ? sparse.panel_pairs_bytes() : kept.values);
    ends.push_back(end);
  }
  const absl::Span<uint8_t> values =
      bytes.subspan(static_cast<size_t>(sparse.ValuesOffset()));
  QEFF_CHECK(end + (pairs ? 0 : kSparseSlackBytes) <= values.size());
  pool->ParallelFor(
      sparse.panels(), 1, [&](int64_t from, int64_t to, int /*thread*/) {
        for (int64_t p = from; p < to; ++p) {
          const size_t i = static_cast<size_t>(p);
          const size_t begin = i == 0 ? 0 : ends[i - 1];
          CompressPanel(sparse, packed.data() + p * sparse.panel_bytes(),
                        bytes.data() + sparse.MasksOffset() +
                            p * sparse.panel_masks_bytes(),
                        values.subspan(begin, ends[i] - begin));
        }
      });
}

void ExpandIntWeights(const PackedIntLayout& sparse,
                      absl::Span<const uint8_t> bytes,
                      absl::Span<uint8_t> packed) {
  QEFF_CHECK(sparse.sparse() &&
             static_cast<int64_t>(bytes.size()) == sparse.total_bytes() &&
             static_cast<int64_t>(packed.size()) ==
                 sparse.Dense().total_bytes());
  const bool pairs = sparse.sparse_codes().two_of_four;
  const absl::Span<const uint8_t> values =
      bytes.subspan(static_cast<size_t>(sparse.ValuesOffset()));
  for (int64_t p = 0; p < sparse.panels(); ++p) {
    uint64_t begin = static_cast<uint64_t>(p * sparse.panel_pairs_bytes());
    if (!pairs) std::memcpy(&begin, bytes.data() + 8 * p, sizeof(begin));
    begin = std::min<uint64_t>(begin, values.size());
    ExpandPanel(
        sparse,
        bytes.data() + sparse.MasksOffset() + p * sparse.panel_masks_bytes(),
        values.subspan(begin), packed.data() + p * sparse.panel_bytes());
  }
}

}  // namespace qeff
