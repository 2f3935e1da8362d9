// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/matmul_bf16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/matmul_bf16/matmul_bf16.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "qeff/kernels/matmul_bf16/bf16_dot-inl.h"
#include "qeff/kernels/matmul_bf16/expand_pairs-inl.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/util/check.h"

#ifndef QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_ONCE_
#define QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_ONCE_
namespace qeff {
namespace internal_matmul_bf16 {

constexpr int64_t kPanelRows = PackedBF16Layout::kPanelRows;
constexpr int64_t kPairBytes = PackedBF16Layout::kPairBytes;

// Sparse weights are expanded this many pairs at a time: 16 KiB, which stay in
// L1 beside the activations of a tile.
constexpr int64_t kExpandedPairs = 128;

// A call of MatMulBF16, in numbers that the inner loops use.
struct Product {
  const uint8_t* weights;
  const PackedBF16Layout* sparse;  // null: dense
  int64_t panel_bytes;
  int64_t rows;
  int64_t pairs;
  const BF16ActivationLayout* layout;
  const uint8_t* activations;
  float* y;
  int64_t stride_elems;
  bool use_instruction;
};

// The part of it that some pairs of one tile of tokens and one panel make.
struct Tile {
  const uint8_t* w;  // of the first pair
  const uint8_t* x;  // likewise
  int64_t pairs;
  bool begins;             // with the first pair of all: y has no sums yet
  StreamFetcher* fetcher;  // null if the weights are in the cache
  int64_t tokens;
  float* y;      // of the first token and row
  int64_t rows;  // of the panel that are in the matrix
};

}  // namespace internal_matmul_bf16
}  // namespace qeff
#endif  // QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_ONCE_

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_bf16 {
namespace HWY_NAMESPACE {

// Sums that stay in registers: kVectors vectors of rows for each token.
constexpr int kVectors = 2;
constexpr int kTileRows = kVectors * kLanes;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr int kTokensAtOnce = BF16ActivationLayout::kMaxTileTokens;
#else
constexpr int kTokensAtOnce = 4;  // 16 registers
#endif

HWY_INLINE VU LoadPairs(const uint8_t* from) {
  return hn::Load(U32(), reinterpret_cast<const uint32_t*>(from));
}

// sums[t][v] += pairs of rows v times pair of token t.
template <class Way, int kTokens>
HWY_INLINE void MultiplyPair(VU first, VU second, const uint8_t* x,
                             VF (&sums)[kTokens][kVectors]) {
  const typename Way::Operand w0(first), w1(second);
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    uint32_t pair;
    std::memcpy(&pair, x + 4 * t, sizeof(pair));
    const typename Way::Operand token(hn::Set(U32(), pair));
    sums[t][0] = Way::Dot(sums[t][0], w0, token);
    sums[t][1] = Way::Dot(sums[t][1], w1, token);
  }
}

// The first `rows` of the sums of one token, from and to `y`.
HWY_INLINE void LoadSums(const float* y, int64_t rows, VF (&sums)[kVectors]) {
  if (rows == kTileRows) {
    sums[0] = hn::LoadU(F32(), y);
    sums[1] = hn::LoadU(F32(), y + kLanes);
    return;
  }
  HWY_ALIGN float all[kTileRows] = {};
  std::memcpy(all, y, static_cast<size_t>(rows) * sizeof(float));
  sums[0] = hn::Load(F32(), all);
  sums[1] = hn::Load(F32(), all + kLanes);
}

HWY_INLINE void StoreSums(const VF (&sums)[kVectors], int64_t rows, float* y) {
  if (rows == kTileRows) {
    hn::StoreU(sums[0], F32(), y);
    hn::StoreU(sums[1], F32(), y + kLanes);
    return;
  }
  HWY_ALIGN float all[kTileRows];
  hn::Store(sums[0], F32(), all);
  hn::Store(sums[1], F32(), all + kLanes);
  std::memcpy(y, all, static_cast<size_t>(rows) * sizeof(float));
}

// Rows [row, row + kTileRows) of the panel times tokens
// [token, token + kTokens) of the tile.
template <class Way, int kTokens>
HWY_NOINLINE void MultiplyTile(const Product& product, const Tile& tile,
                               int64_t row, int64_t token) {
  const int64_t x_stride_bytes =
      4 * (kTokensAtOnce == BF16ActivationLayout::kMaxTileTokens ? kTokens
                                                                 : tile.tokens);
  const int64_t rows = std::min<int64_t>(kTileRows, tile.rows - row);
  float* y = tile.y + token * product.stride_elems + row;
  VF sums[kTokens][kVectors];
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    if (tile.begins) {
      sums[t][0] = sums[t][1] = hn::Zero(F32());
    } else {
      LoadSums(y + t * product.stride_elems, rows, sums[t]);
    }
  }
  static_assert(kPairsOfPiece * kPairBytes <= StreamFetcher::kPieceBytes,
                "Reach is called often enough");
  const uint8_t* w = tile.w + 4 * row;
  const uint8_t* x = tile.x + 4 * token;
  const bool fetch = tile.fetcher != nullptr && row + token == 0;
  // With more tokens dot products take longer than reading, and hardware does
  // not look far enough ahead.
  constexpr bool kFetchesAlways = kTokens >= 8;
  const int64_t ahead = fetch ? StreamFetcher::kLineAheadBytes : 0;
  for (int64_t begin = 0; begin < tile.pairs; begin += kPairsOfPiece) {
    if (fetch) tile.fetcher->Reach(w);
    const int64_t end = std::min(begin + kPairsOfPiece, tile.pairs);
    for (int64_t pair = begin; pair < end; ++pair) {
      if (kFetchesAlways) {
        FetchIntoL2(w + ahead);
        FetchIntoL2(w + ahead + 64);
      }
      MultiplyPair<Way, kTokens>(LoadPairs(w), LoadPairs(w + 4 * kLanes), x,
                                 sums);
      w += kPairBytes;
      x += x_stride_bytes;
    }
  }
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    StoreSums(sums[t], rows, y + t * product.stride_elems);
  }
}

// Calls MultiplyTile with as many tokens as there are, at most kTokens.
template <class Way, int kTokens>
HWY_INLINE void MultiplyTokens(const Product& product, const Tile& tile,
                               int64_t row, int64_t token) {
  if constexpr (kTokens > 1) {
    if (tile.tokens - token < kTokens) {
      return MultiplyTokens<Way, kTokens - 1>(product, tile, row, token);
    }
  }
  MultiplyTile<Way, kTokens>(product, tile, row, token);
}

template <class Way>
HWY_INLINE void MultiplyPairs(const Product& product, const Tile& tile) {
  for (int64_t row = 0; row < tile.rows; row += kTileRows) {
    for (int64_t token = 0; token < tile.tokens; token += kTokensAtOnce) {
      MultiplyTokens<Way, kTokensAtOnce>(product, tile, row, token);
    }
  }
}

// The `pairs` pairs at `w` of panel `panel` from `pair` on, times tile `index`.
void MultiplyTilePairs(const Product& product, int64_t panel, int64_t index,
                       const uint8_t* w, int64_t pair, int64_t pairs,
                       StreamFetcher* fetcher) {
  const BF16ActivationLayout& layout = *product.layout;
  Tile tile;
  tile.tokens = layout.TileTokens(index);
  tile.w = w;
  tile.x =
      product.activations + layout.TileOffset(index) + 4 * pair * tile.tokens;
  tile.pairs = pairs;
  tile.begins = pair == 0;
  tile.fetcher = fetcher;
  tile.y = product.y + layout.TileBegin(index) * product.stride_elems +
           panel * kPanelRows;
  tile.rows = std::min(kPanelRows, product.rows - panel * kPanelRows);
  product.use_instruction ? MultiplyPairs<InstructionDot>(product, tile)
                          : MultiplyPairs<WidenedDot>(product, tile);
}

#if HWY_TARGET == HWY_AVX3_DL
// Sparse panel `panel` times the tokens of the only tile. Pairs go from the
// registers that they are expanded in into the product: through memory they
// would take longer than reading.
template <class Way, int kTokens>
HWY_NOINLINE void MultiplySparseTile(const Product& product, int64_t panel,
                                     SparseFetchers& fetchers) {
  static_assert(kTileRows == kPanelRows, "a pair is two vectors");
  VF sums[kTokens][kVectors];
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    sums[t][0] = sums[t][1] = hn::Zero(F32());
  }
  const SparseCursor cursor(*product.sparse, product.weights, panel);
  const uint8_t* masks = cursor.masks;
  const uint8_t* values = cursor.values;
  const uint8_t* x = product.activations;
  for (int64_t begin = 0; begin < product.pairs; begin += kPairsOfPiece) {
    fetchers.masks.Reach(masks);
    fetchers.values.Reach(values);
    const int64_t end = std::min(begin + kPairsOfPiece, product.pairs);
    for (int64_t pair = begin; pair < end; ++pair) {
      V16 first, second;
      values += ExpandPair(masks, values, first, second);
      values = std::min(values, cursor.limit);
      masks += PackedBF16Layout::kPairMaskBytes;
      MultiplyPair<Way, kTokens>(hn::BitCast(U32(), first),
                                 hn::BitCast(U32(), second), x, sums);
      x += 4 * kTokens;
    }
  }
  const int64_t rows = std::min(kPanelRows, product.rows - panel * kPanelRows);
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    StoreSums(sums[t], rows,
              product.y + t * product.stride_elems + panel * kPanelRows);
  }
}

// For as many tokens as there are, at most kTokens.
template <class Way, int kTokens>
HWY_INLINE void MultiplySparseTokens(const Product& product, int64_t panel,
                                     SparseFetchers& fetchers) {
  if constexpr (kTokens > 1) {
    if (product.layout->tokens() < kTokens) {
      return MultiplySparseTokens<Way, kTokens - 1>(product, panel, fetchers);
    }
  }
  MultiplySparseTile<Way, kTokens>(product, panel, fetchers);
}
#endif

// MultiplyBlock of sparse weights. Where there is no way through registers some
// pairs are expanded and then multiplied with all tiles while they are in L1.
// Sums wait in y, in float32 as they are in registers, so products are those of
// the dense panel, bit by bit.
void MultiplySparseBlock(const Product& product, int64_t panel_begin,
                         int64_t panel_end, int64_t tile_begin,
                         int64_t tile_end) {
  SparseFetchers fetchers;
#if HWY_TARGET == HWY_AVX3_DL
  if (product.layout->tiles() == 1) {
    for (int64_t p = panel_begin; p < panel_end; ++p) {
      product.use_instruction
          ? MultiplySparseTokens<InstructionDot, kTokensAtOnce>(product, p,
                                                                fetchers)
          : MultiplySparseTokens<WidenedDot, kTokensAtOnce>(product, p,
                                                            fetchers);
    }
    return;
  }
#endif
  HWY_ALIGN uint8_t expanded[kExpandedPairs * kPairBytes];
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    SparseCursor cursor(*product.sparse, product.weights, p);
    for (int64_t pair = 0; pair < product.pairs; pair += kExpandedPairs) {
      const int64_t pairs = std::min(kExpandedPairs, product.pairs - pair);
      ExpandPairs(pairs, &fetchers, cursor, expanded);
      for (int64_t i = tile_begin; i < tile_end; ++i) {
        MultiplyTilePairs(product, p, i, expanded, pair, pairs, nullptr);
      }
    }
  }
}

// Panels [panel_begin, panel_end) times tiles [tile_begin, tile_end). A panel
// stays in L2 while all its tiles go by: weights are read once.
void MultiplyBlock(const Product& product, int64_t panel_begin,
                   int64_t panel_end, int64_t tile_begin, int64_t tile_end) {
  if (product.sparse != nullptr) {
    return MultiplySparseBlock(product, panel_begin, panel_end, tile_begin,
                               tile_end);
  }
  StreamFetcher fetcher;
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    const uint8_t* panel = product.weights + p * product.panel_bytes;
    for (int64_t i = tile_begin; i < tile_end; ++i) {
      MultiplyTilePairs(product, p, i, panel, 0, product.pairs,
                        i == tile_begin ? &fetcher : nullptr);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_matmul_bf16
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_matmul_bf16 {
HWY_EXPORT(MultiplyBlock);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Multiply(const Product& product, int64_t panel_begin, int64_t panel_end,
              int64_t tile_begin, int64_t tile_end) {
  HWY_DYNAMIC_DISPATCH(MultiplyBlock)
  (product, panel_begin, panel_end, tile_begin, tile_end);
}

Product MakeProduct(const PackedBF16Weights& weights,
                    const BF16Activations& activations, float* y,
                    int64_t stride_elems, BF16Dot dot) {
  Product product;
  product.weights = weights.bytes.data();
  product.sparse = weights.layout.sparse() ? &weights.layout : nullptr;
  product.panel_bytes = weights.layout.panel_bytes();
  product.rows = weights.layout.rows();
  product.pairs = weights.layout.pairs();
  product.layout = &activations.layout;
  product.activations = activations.bytes.data();
  product.y = y;
  product.stride_elems = stride_elems;
  product.use_instruction = dot == BF16Dot::kInstruction && CpuHasBF16Dot();
  return product;
}

}  // namespace internal_matmul_bf16

bool CpuHasBF16Dot() {
#if HWY_ARCH_X86
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

void MatMulBF16(const PackedBF16Weights& weights,
                const BF16Activations& activations, absl::Span<float> y,
                int64_t stride_elems, ThreadPool& pool, BF16Dot dot) {
  const int64_t tokens = activations.layout.tokens();
  const int64_t rows = weights.layout.rows();
  QEFF_CHECK(activations.layout.cols() == weights.layout.cols());
  QEFF_CHECK(static_cast<int64_t>(weights.bytes.size()) ==
                 weights.layout.total_bytes() &&
             reinterpret_cast<uintptr_t>(weights.bytes.data()) % 64 == 0);
  QEFF_CHECK(static_cast<int64_t>(activations.bytes.size()) ==
             activations.layout.total_bytes());
  QEFF_CHECK(stride_elems >= rows && static_cast<int64_t>(y.size()) >=
                                         (tokens - 1) * stride_elems + rows);
  const auto product = internal_matmul_bf16::MakeProduct(
      weights, activations, y.data(), stride_elems, dot);
  // Panels are split into runs of tiles when there are few for the threads.
  const int64_t panels = weights.layout.panels();
  const int64_t tiles = activations.layout.tiles();
  const int64_t wanted = int64_t{4} * pool.num_threads();
  const int64_t runs = std::min(tiles, std::max<int64_t>(1, wanted / panels));
  if (runs == 1) {
    pool.ParallelFor(panels, BalancedGrain(panels, pool.num_threads(), 1),
                     [&](int64_t begin, int64_t end, int /*thread*/) {
                       internal_matmul_bf16::Multiply(product, begin, end, 0,
                                                      tiles);
                     });
    return;
  }
  pool.ParallelFor(panels * runs, 1,
                   [&](int64_t begin, int64_t end, int /*thread*/) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t panel = i / runs, run = i % runs;
                       internal_matmul_bf16::Multiply(product, panel, panel + 1,
                                                      run * tiles / runs,
                                                      (run + 1) * tiles / runs);
                     }
                   });
}

}  // namespace qeff
#endif  // HWY_ONCE
