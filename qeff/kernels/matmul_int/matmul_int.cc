// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/matmul_int.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/matmul_int/matmul_int.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "qeff/kernels/matmul_int/expand_part-inl.h"
#include "qeff/kernels/matmul_int/multiply_part-inl.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/kernels/matmul_int/sparse_token-inl.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_int {
namespace HWY_NAMESPACE {

// Where registers do not hold all rows or tokens, parts of about this many
// bytes are used again while they are in L1.
constexpr int64_t kPartBytes = 1024;

// Sparse weights are expanded in parts of about this many bytes, for so many
// tiles at once. Parts of 2 KiB took a third more time, for what is around
// their loops.
constexpr int64_t kExpandedBytes = 16384;
constexpr int64_t kTilesAtOnce = 8;

// Calls multiply(part) for parts of a panel, from left to right, of up to
// `part_bytes` and the scales of a group.
template <class Multiply>
HWY_INLINE void ForEachPart(const Product& product, int64_t part_bytes,
                            const Multiply& multiply) {
  const int64_t group_bytes = product.GroupBytes();
  if (group_bytes < part_bytes) {
    const int64_t at_once = part_bytes / group_bytes;
    for (int64_t g = 0; g < product.groups; g += at_once) {
      multiply(
          {g, std::min(g + at_once, product.groups), 0, product.group_steps});
    }
    return;
  }
  const int64_t at_once = part_bytes / product.step_bytes;
  for (int64_t g = 0; g < product.groups; ++g) {
    // The last group may have fewer.
    const int64_t steps =
        std::min(product.group_steps,
                 CeilDiv(product.UnitsOf(g) * kUnitElems * product.bits * 4,
                         product.step_bytes));
    for (int64_t s = 0; s < steps; s += at_once) {
      multiply({g, g + 1, s, s + at_once});
    }
  }
}

// A panel times a tile. `fetcher` is null for a panel that is in the cache.
template <int kBits>
HWY_INLINE void MultiplyTile(const Product& product, const Tile& tile,
                             int64_t panel, StreamFetcher* fetcher,
                             PanelState& state) {
  const uint8_t* w = product.weights + panel * product.panel_bytes;
  BeginPanel(product, tile, panel * kPanelRows, state);
  const uint8_t* zeros =
      product.zeros_offset > 0 ? w + product.zeros_offset : nullptr;
  const auto multiply = [&](const Part& part) {
    const uint8_t* steps = w + part.group_begin * product.GroupBytes() +
                           part.step_begin * product.step_bytes;
    MultiplyPanel<kBits>(product, tile, part, {steps, zeros}, fetcher, state);
  };
  if (kLanes == 16) {
    multiply({0, product.groups, 0, product.group_steps});
  } else {
    ForEachPart(product, kPartBytes, multiply);
  }
  EndPanel(product, tile, panel * kPanelRows, state);
}

Tile TileOf(const Product& product, int64_t index) {
  const ActivationLayout& layout = *product.layout;
  const uint8_t* x = product.activations;
  const int64_t first = layout.TileBegin(index);
  Tile tile;
  tile.codes = x + layout.CodesOffset(index);
  tile.sums = reinterpret_cast<const int32_t*>(x + layout.SumsOffset(index));
  tile.scales =
      reinterpret_cast<const float*>(x + layout.ScalesOffset()) + first;
  tile.tokens = layout.TileTokens(index);
  tile.y = product.y + first * product.stride_elems;
  return tile;
}

// Panels [panel_begin, panel_end) times tiles [tile_begin, tile_end). Panels
// stay in L2 while all their tiles go by: weights are read once.
template <int kBits>
void MultiplyBlockOf(const Product& product, int64_t panel_begin,
                     int64_t panel_end, int64_t tile_begin, int64_t tile_end) {
  PanelState state;
  StreamFetcher fetcher;
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      MultiplyTile<kBits>(product, TileOf(product, tile), panel,
                          tile == tile_begin ? &fetcher : nullptr, state);
    }
  }
}

// The same for sparse weights. Parts of a panel are expanded and then
// multiplied while they are in L1; products are those of the dense panel, bit
// by bit.
template <int kBits>
void MultiplySparseBlockOf(const Product& product, int64_t panel_begin,
                           int64_t panel_end, int64_t tile_begin,
                           int64_t tile_end) {
  HWY_ALIGN uint8_t expanded[kExpandedBytes + kPanelRows * 4];
  PanelState states[kTilesAtOnce];
  SparseFetchers fetchers;
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    if (kMultipliesSparseToken && product.layout->tokens() == 1) {
      const Tile tile = TileOf(product, 0);
      BeginPanel(product, tile, panel * kPanelRows, states[0]);
      MultiplySparseToken<kBits>(product, tile, panel, fetchers, states[0]);
      EndPanel(product, tile, panel * kPanelRows, states[0]);
      continue;
    }
    for (int64_t tile = tile_begin; tile < tile_end; tile += kTilesAtOnce) {
      const int64_t tiles = std::min(kTilesAtOnce, tile_end - tile);
      for (int64_t i = 0; i < tiles; ++i) {
        BeginPanel(product, TileOf(product, tile + i), panel * kPanelRows,
                   states[i]);
      }
      SparseCursor cursor(*product.sparse, product.weights, panel);
      const auto multiply = [&](const Part& part) {
        ExpandPart<kBits>(part, tile == tile_begin ? &fetchers : nullptr,
                          cursor, expanded);
        for (int64_t i = 0; i < tiles; ++i) {
          MultiplyPanel<kBits>(product, TileOf(product, tile + i), part,
                               {expanded, cursor.zeros}, nullptr, states[i]);
        }
      };
      ForEachPart(product, kExpandedBytes, multiply);
      for (int64_t i = 0; i < tiles; ++i) {
        EndPanel(product, TileOf(product, tile + i), panel * kPanelRows,
                 states[i]);
      }
    }
  }
}

void MultiplyBlock(const Product& product, int64_t panel_begin,
                   int64_t panel_end, int64_t tile_begin, int64_t tile_end) {
  if (product.sparse != nullptr) {
    const auto multiply = product.bits == 8 ? &MultiplySparseBlockOf<8>
                                            : &MultiplySparseBlockOf<4>;
    return multiply(product, panel_begin, panel_end, tile_begin, tile_end);
  }
  const auto multiply = [&](auto bits) {
    MultiplyBlockOf<decltype(bits)::value>(product, panel_begin, panel_end,
                                           tile_begin, tile_end);
  };
  switch (product.bits) {
    case 2:
      return multiply(std::integral_constant<int, 2>());
    case 3:
      return multiply(std::integral_constant<int, 3>());
    case 4:
      return multiply(std::integral_constant<int, 4>());
    default:
      return multiply(std::integral_constant<int, 8>());
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_int
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_matmul_int {
HWY_EXPORT(MultiplyBlock);

bool IsAligned(const uint8_t* p) {
  return reinterpret_cast<uintptr_t>(p) % 64 == 0;
}

void Check(const IntProduct& product, int64_t tokens) {
  const PackedIntLayout& layout = product.weights.layout;
  QEFF_CHECK(static_cast<int64_t>(product.weights.bytes.size()) ==
                 layout.total_bytes() &&
             IsAligned(product.weights.bytes.data()));
  QEFF_CHECK(product.stride_elems >= layout.rows() &&
             static_cast<int64_t>(product.y.size()) >=
                 (tokens - 1) * product.stride_elems + layout.rows());
}

Product MakeProduct(const IntProduct& of,
                    const QuantizedActivations& activations) {
  const PackedIntLayout& layout = of.weights.layout;
  Product product;
  product.weights = of.weights.bytes.data();
  product.panel_bytes = layout.panel_bytes();
  product.rows = layout.rows();
  product.groups = layout.groups();
  product.group_units = CeilDiv(layout.GroupCols(0), kUnitElems);
  product.last_group_units =
      CeilDiv(layout.GroupCols(product.groups - 1), kUnitElems);
  product.group_steps = layout.GroupSteps(0);
  product.step_bytes = layout.step_bytes();
  product.scales_bytes = layout.scales_bytes();
  product.zeros_offset =
      layout.asymmetric() ? layout.panel_bytes() - layout.zeros_bytes() : 0;
  product.bits = layout.bits();
  product.scale_dtype = layout.scale_dtype();
  product.sparse = layout.sparse() ? &layout : nullptr;
  product.layout = &activations.layout;
  product.activations = activations.bytes.data();
  product.y = of.y.data();
  product.stride_elems = of.stride_elems;
  return product;
}

// The panels of several products, one after another.
class Panels {
 public:
  Panels(absl::Span<const IntProduct> products,
         const QuantizedActivations& activations)
      : tiles_(activations.layout.tiles()) {
    for (const IntProduct& of : products) {
      products_[size_] = MakeProduct(of, activations);
      count_ += of.weights.layout.panels();
      ends_[size_++] = count_;
    }
  }

  int64_t count() const { return count_; }
  int64_t tiles() const { return tiles_; }

  // Panels [begin, end) times part `run` of `runs` of the tiles.
  void Multiply(int64_t begin, int64_t end, int64_t run, int64_t runs) const {
    const int64_t tile_begin = run * tiles_ / runs;
    const int64_t tile_end = (run + 1) * tiles_ / runs;
    for (int64_t i = 0, first = 0; i < size_; first = ends_[i++]) {
      const int64_t from = std::max(begin, first) - first;
      const int64_t to = std::min(end, ends_[i]) - first;
      if (from >= to) continue;
      HWY_DYNAMIC_DISPATCH(MultiplyBlock)
      (products_[i], from, to, tile_begin, tile_end);
    }
  }

  // With one tile, of `available` threads those that are worth starting.
  int64_t Threads(int available) const {
    constexpr int64_t kLeastBytes = 64 * 1024;
    const int64_t bytes = count_ * products_[0].panel_bytes;
    return std::max<int64_t>(1,
                             std::min<int64_t>(available, bytes / kLeastBytes));
  }

  // The ranges of panels of a share, and where one begins, with `threads`
  // shares. While weights come from memory the beginning of a range is waited
  // for, and at the end a thread may wait for another: so ranges are 1/2, 1/4,
  // 1/8, 1/16 and 1/16 of a share.
  static constexpr int64_t kRangesOfShare = 5;
  int64_t RangeBegin(int64_t range, int64_t threads) const {
    const int64_t share = range / kRangesOfShare;
    const int64_t begin = share * count_ / threads;
    const int64_t size = (share + 1) * count_ / threads - begin;
    return begin + size - (size >> (range % kRangesOfShare));
  }

 private:
  const int64_t tiles_;
  int64_t size_ = 0;
  int64_t count_ = 0;
  Product products_[kMaxIntProducts];
  int64_t ends_[kMaxIntProducts];  // in panels
};

}  // namespace internal_matmul_int

void MatMulInts(absl::Span<const IntProduct> products,
                const QuantizedActivations& activations, ThreadPool& pool) {
  if (products.empty()) return;
  QEFF_CHECK(static_cast<int64_t>(products.size()) <= kMaxIntProducts);
  QEFF_CHECK(static_cast<int64_t>(activations.bytes.size()) ==
                 activations.layout.total_bytes() &&
             internal_matmul_int::IsAligned(activations.bytes.data()));
  for (const IntProduct& product : products) {
    QEFF_CHECK(activations.layout.Fits(product.weights.layout));
    internal_matmul_int::Check(product, activations.layout.tokens());
  }
  const internal_matmul_int::Panels panels(products, activations);
  if (panels.tiles() == 1) {
    const int64_t threads = panels.Threads(pool.num_threads());
    if (threads == 1) return panels.Multiply(0, panels.count(), 0, 1);
    pool.ParallelFor(internal_matmul_int::Panels::kRangesOfShare * threads, 1,
                     [&](int64_t i, int64_t end, int /*thread*/) {
                       for (; i < end; ++i) {
                         panels.Multiply(panels.RangeBegin(i, threads),
                                         panels.RangeBegin(i + 1, threads), 0,
                                         1);
                       }
                     });
    return;
  }
  // Panels are split into runs of tiles when there are few for the threads.
  const int64_t wanted = int64_t{4} * pool.num_threads();
  const int64_t runs =
      std::min(panels.tiles(), std::max<int64_t>(1, wanted / panels.count()));
  if (runs == 1) {
    pool.ParallelFor(panels.count(),
                     BalancedGrain(panels.count(), pool.num_threads(), 1),
                     [&](int64_t begin, int64_t end, int /*thread*/) {
                       panels.Multiply(begin, end, 0, 1);
                     });
    return;
  }
  pool.ParallelFor(panels.count() * runs, 1,
                   [&](int64_t begin, int64_t end, int /*thread*/) {
                     for (int64_t i = begin; i < end; ++i) {
                       panels.Multiply(i / runs, i / runs + 1, i % runs, runs);
                     }
                   });
}

void MatMulInt(const PackedIntWeights& weights,
               const QuantizedActivations& activations, absl::Span<float> y,
               int64_t stride_elems, ThreadPool& pool) {
  const IntProduct product = {weights, y, stride_elems};
  MatMulInts(absl::MakeConstSpan(&product, 1), activations, pool);
}

}  // namespace qeff
#endif  // HWY_ONCE
