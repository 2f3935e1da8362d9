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
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"
#include "qeff/util/check.h"

#ifndef QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_ONCE_
#define QEFF_KERNELS_MATMUL_BF16_MATMUL_BF16_ONCE_
namespace qeff {
namespace internal_matmul_bf16 {

constexpr int64_t kPanelRows = PackedBF16Layout::kPanelRows;
constexpr int64_t kPairBytes = PackedBF16Layout::kPairBytes;

// A call of MatMulBF16, in numbers that the inner loops use.
struct Product {
  const uint8_t* weights;
  int64_t panel_bytes;
  int64_t rows;
  int64_t pairs;
  const BF16ActivationLayout* layout;
  const uint8_t* activations;
  float* y;
  int64_t stride_elems;
  bool use_instruction;
};

// The part of it that one tile of tokens and one panel make.
struct Tile {
  const uint8_t* panel;
  StreamFetcher* fetcher;  // null if the panel is in the cache
  const uint8_t* x;
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
HWY_INLINE void MultiplyPair(const uint8_t* w, const uint8_t* x,
                             VF (&sums)[kTokens][kVectors]) {
  const typename Way::Operand w0(LoadPairs(w)), w1(LoadPairs(w + 4 * kLanes));
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    uint32_t pair;
    std::memcpy(&pair, x + 4 * t, sizeof(pair));
    const typename Way::Operand token(hn::Set(U32(), pair));
    sums[t][0] = Way::Dot(sums[t][0], w0, token);
    sums[t][1] = Way::Dot(sums[t][1], w1, token);
  }
}

// Writes the first `rows` of the sums of one token.
HWY_INLINE void StoreSums(const VF (&sums)[kVectors], int64_t rows, float* y) {
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
  VF sums[kTokens][kVectors];
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    sums[t][0] = sums[t][1] = hn::Zero(F32());
  }
  constexpr int64_t kPairsOfPiece = StreamFetcher::kPieceBytes / kPairBytes;
  const uint8_t* w = tile.panel + 4 * row;
  const uint8_t* x = tile.x + 4 * token;
  const bool fetch = tile.fetcher != nullptr && row + token == 0;
  for (int64_t begin = 0; begin < product.pairs; begin += kPairsOfPiece) {
    if (fetch) tile.fetcher->Reach(w);
    const int64_t end = std::min(begin + kPairsOfPiece, product.pairs);
    for (int64_t pair = begin; pair < end; ++pair) {
      MultiplyPair<Way, kTokens>(w, x, sums);
      w += kPairBytes;
      x += x_stride_bytes;
    }
  }
  const int64_t rows = std::min<int64_t>(kTileRows, tile.rows - row);
  float* y = tile.y + token * product.stride_elems + row;
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
HWY_INLINE void MultiplyPanel(const Product& product, const Tile& tile) {
  for (int64_t row = 0; row < tile.rows; row += kTileRows) {
    for (int64_t token = 0; token < tile.tokens; token += kTokensAtOnce) {
      MultiplyTokens<Way, kTokensAtOnce>(product, tile, row, token);
    }
  }
}

// Panels [panel_begin, panel_end) times tiles [tile_begin, tile_end). A panel
// stays in L2 while all its tiles go by: weights are read once.
void MultiplyBlock(const Product& product, int64_t panel_begin,
                   int64_t panel_end, int64_t tile_begin, int64_t tile_end) {
  const BF16ActivationLayout& layout = *product.layout;
  Tile tile;
  StreamFetcher fetcher;
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    tile.panel = product.weights + p * product.panel_bytes;
    tile.rows = std::min(kPanelRows, product.rows - p * kPanelRows);
    tile.fetcher = &fetcher;
    for (int64_t i = tile_begin; i < tile_end; ++i) {
      tile.x = product.activations + layout.TileOffset(i);
      tile.tokens = layout.TileTokens(i);
      tile.y = product.y + layout.TileBegin(i) * product.stride_elems +
               p * kPanelRows;
      product.use_instruction ? MultiplyPanel<InstructionDot>(product, tile)
                              : MultiplyPanel<WidenedDot>(product, tile);
      tile.fetcher = nullptr;
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
