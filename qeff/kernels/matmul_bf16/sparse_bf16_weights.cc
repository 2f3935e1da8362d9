// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/sparse_bf16_weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "qeff/format/sparse_mask.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {
namespace {

constexpr int64_t kPairBytes = PackedBF16Layout::kPairBytes;
constexpr int64_t kPairMaskBytes = PackedBF16Layout::kPairMaskBytes;
constexpr int64_t kSlackBytes = PackedBF16Layout::kSparseSlackBytes;
static_assert(kPairBytes == 2 * kMaskElems, "a mask covers a pair");

struct Pair {
  uint16_t elements[kMaskElems];

  explicit Pair(const uint8_t* from) {
    std::memcpy(elements, from, kPairBytes);
  }
  uint64_t Mask() const {
    return MaskOf<uint16_t>(absl::MakeConstSpan(elements));
  }
};

// Of each panel, the bytes of its values.
std::vector<int64_t> ValuesBytes(const PackedBF16Layout& dense,
                                 absl::Span<const uint8_t> packed,
                                 ThreadPool* pool) {
  QEFF_CHECK(!dense.sparse() &&
             static_cast<int64_t>(packed.size()) == dense.total_bytes());
  std::vector<int64_t> bytes(static_cast<size_t>(dense.panels()));
  pool->ParallelFor(
      dense.panels(), 1, [&](int64_t begin, int64_t end, int /*thread*/) {
        for (int64_t p = begin; p < end; ++p) {
          const uint8_t* panel = packed.data() + p * dense.panel_bytes();
          int64_t kept = 0;
          for (int64_t pair = 0; pair < dense.pairs(); ++pair) {
            kept += KeptElems(Pair(panel + pair * kPairBytes).Mask());
          }
          bytes[static_cast<size_t>(p)] = 2 * kept;
        }
      });
  return bytes;
}

void CompressPanel(const PackedBF16Layout& layout, const uint8_t* panel,
                   uint8_t* masks, absl::Span<uint8_t> values) {
  size_t at = 0;
  for (int64_t i = 0; i < layout.pairs(); ++i) {
    const Pair pair(panel + i * kPairBytes);
    const uint64_t mask = pair.Mask();
    std::memcpy(masks + i * kPairMaskBytes, &mask, sizeof(mask));
    uint16_t kept[kMaskElems];
    const size_t bytes =
        2 * static_cast<size_t>(Compress<uint16_t>(
                mask, absl::MakeConstSpan(pair.elements), kept));
    QEFF_CHECK(at + bytes <= values.size());
    std::memcpy(values.data() + at, kept, bytes);
    at += bytes;
  }
}

void ExpandPanel(const PackedBF16Layout& layout, const uint8_t* masks,
                 absl::Span<const uint8_t> values, uint8_t* panel) {
  size_t at = 0;
  for (int64_t i = 0; i < layout.pairs(); ++i) {
    uint64_t mask;
    std::memcpy(&mask, masks + i * kPairMaskBytes, sizeof(mask));
    uint16_t kept[kMaskElems] = {}, elements[kMaskElems];
    const size_t bytes =
        std::min(2 * static_cast<size_t>(KeptElems(mask)), values.size() - at);
    std::memcpy(kept, values.data() + at, bytes);
    at += bytes;
    Expand<uint16_t>(mask, kept, absl::MakeSpan(elements));
    std::memcpy(panel + i * kPairBytes, elements, kPairBytes);
  }
}

}  // namespace

PackedBF16Layout SparseLayoutOf(const PackedBF16Layout& layout,
                                absl::Span<const uint8_t> packed,
                                ThreadPool* pool) {
  int64_t values = kSlackBytes;
  for (const int64_t bytes : ValuesBytes(layout, packed, pool)) values += bytes;
  return *layout.Sparse(RoundUp(values, int64_t{64}));
}

void CompressBF16Weights(const PackedBF16Layout& sparse,
                         absl::Span<const uint8_t> packed,
                         absl::Span<uint8_t> bytes, ThreadPool* pool) {
  QEFF_CHECK(sparse.sparse() &&
             static_cast<int64_t>(bytes.size()) == sparse.total_bytes());
  std::memset(bytes.data(), 0, bytes.size());
  std::vector<size_t> begins = {0};
  for (const int64_t values : ValuesBytes(sparse.Dense(), packed, pool)) {
    const uint64_t begin = begins.back();
    std::memcpy(bytes.data() + 8 * (begins.size() - 1), &begin, sizeof(begin));
    begins.push_back(begins.back() + static_cast<size_t>(values));
  }
  const absl::Span<uint8_t> values =
      bytes.subspan(static_cast<size_t>(sparse.ValuesOffset()));
  QEFF_CHECK(begins.back() + kSlackBytes <= values.size());
  pool->ParallelFor(
      sparse.panels(), 1, [&](int64_t from, int64_t to, int /*thread*/) {
        for (int64_t p = from; p < to; ++p) {
          const size_t i = static_cast<size_t>(p);
          CompressPanel(sparse, packed.data() + p * sparse.panel_bytes(),
                        bytes.data() + sparse.MasksOffset() +
                            p * sparse.panel_masks_bytes(),
                        values.subspan(begins[i], begins[i + 1] - begins[i]));
        }
      });
}

void ExpandBF16Weights(const PackedBF16Layout& sparse,
                       absl::Span<const uint8_t> bytes,
                       absl::Span<uint8_t> packed) {
  QEFF_CHECK(sparse.sparse() &&
             static_cast<int64_t>(bytes.size()) == sparse.total_bytes() &&
             static_cast<int64_t>(packed.size()) ==
                 sparse.Dense().total_bytes());
  const absl::Span<const uint8_t> values =
      bytes.subspan(static_cast<size_t>(sparse.ValuesOffset()));
  for (int64_t p = 0; p < sparse.panels(); ++p) {
    uint64_t begin;
    std::memcpy(&begin, bytes.data() + 8 * p, sizeof(begin));
    begin = std::min<uint64_t>(begin, values.size() - kSlackBytes);
    ExpandPanel(
        sparse,
        bytes.data() + sparse.MasksOffset() + p * sparse.panel_masks_bytes(),
        values.subspan(static_cast<size_t>(begin)),
        packed.data() + p * sparse.panel_bytes());
  }
}

}  // namespace qeff
