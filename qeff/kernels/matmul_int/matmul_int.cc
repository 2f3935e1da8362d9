// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_int/matmul_int.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/matmul_int/matmul_int.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/kernels/matmul_int/dot-inl.h"
#include "qeff/kernels/matmul_int/packed_int_layout.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

#ifndef QEFF_KERNELS_MATMUL_INT_MATMUL_INT_ONCE_
#define QEFF_KERNELS_MATMUL_INT_MATMUL_INT_ONCE_
namespace qeff {
namespace internal_matmul_int {

// Bytes between two words of a row.
constexpr int64_t kWordRowBytes = kPanelRows * 4;

// A call of MatMulInt, in numbers that the inner loops use.
struct Product {
  const uint8_t* weights;
  int64_t panel_bytes;
  int64_t rows;
  int64_t groups;
  int64_t group_steps;
  int64_t last_group_steps;
  int64_t scales_bytes;
  int bits;
  DType scale_dtype;
  const ActivationLayout* layout;
  const uint8_t* activations;
  float* y;
  int64_t stride_elems;
};

// The part of it that one tile of tokens and one panel make.
struct Tile {
  const uint8_t* panel;
  int64_t ahead_bytes;  // to fetch weights in advance; 0: they are in cache
  const uint8_t* codes;
  const int32_t* sums;
  const float* scales;
  int64_t tokens;
  float* y;      // of the first token and row
  int64_t rows;  // of the panel that are in the matrix
};

}  // namespace internal_matmul_int
}  // namespace qeff
#endif  // QEFF_KERNELS_MATMUL_INT_MATMUL_INT_ONCE_

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_matmul_int {
namespace HWY_NAMESPACE {

using F32 = hn::RebindToFloat<I32>;
using VF = hn::Vec<F32>;

// Sums that stay in registers: kVectors vectors of rows for each token.
constexpr int kVectors = 2;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
constexpr int kTokensAtOnce = static_cast<int>(kMaxTileTokens);
#else
constexpr int kTokensAtOnce = 4;  // 16 registers
#endif

HWY_INLINE VF LoadScales(DType dtype, const uint8_t* from) {
  switch (dtype) {
    case DType::kF16:
      return ::qeff::HWY_NAMESPACE::F16Bytes::LoadNumbers(F32(), from);
    case DType::kBF16:
      return ::qeff::HWY_NAMESPACE::BF16Bytes::Load(F32(), from);
    default:
      return ::qeff::HWY_NAMESPACE::F32Bytes::Load(F32(), from);
  }
}

// sums[t][v] += words of rows v times word of token t.
template <int kTokens>
HWY_INLINE void MultiplyWord(const VU (&words)[kVectors], const uint8_t* x,
                             VI (&sums)[kTokens][kVectors]) {
  const WeightWord w0(words[0]), w1(words[1]);
  HWY_UNROLL(12)
  for (int t = 0; t < kTokens; ++t) {
    int32_t word;
    std::memcpy(&word, x + 4 * t, sizeof(word));
    const TokenWord token(word);
    sums[t][0] = Dot(sums[t][0], w0, token);
    sums[t][1] = Dot(sums[t][1], w1, token);
  }
}

HWY_INLINE VU LoadWords(const uint8_t* from) {
  return hn::Load(U32(), reinterpret_cast<const uint32_t*>(from));
}

// One step of eight columns; `x_stride_bytes` separates words of a token.
template <int kBits, int kTokens>
HWY_INLINE void MultiplyStep(const uint8_t* w, const uint8_t* x,
                             int64_t x_stride_bytes,
                             VI (&sums)[kTokens][kVectors]) {
  constexpr int kVectorBytes = 4 * kLanes;
  if (kBits == 8) {
    HWY_UNROLL(2)
    for (int half = 0; half < 2; ++half) {
      const VU words[kVectors] = {LoadWords(w), LoadWords(w + kVectorBytes)};
      MultiplyWord<kTokens>(words, x, sums);
      w += kWordRowBytes;
      x += x_stride_bytes;
    }
  } else {
    const auto mask = hn::Set(U32(), 0x0F0F0F0Fu);
    const VU both[kVectors] = {LoadWords(w), LoadWords(w + kVectorBytes)};
    const VU low[kVectors] = {hn::And(both[0], mask), hn::And(both[1], mask)};
    MultiplyWord<kTokens>(low, x, sums);
    const VU high[kVectors] = {hn::And(hn::ShiftRight<4>(both[0]), mask),
                               hn::And(hn::ShiftRight<4>(both[1]), mask)};
    MultiplyWord<kTokens>(high, x + x_stride_bytes, sums);
  }
}

// Writes totals * scale for the rows that are in the matrix, `rows` of them at
// most.
HWY_INLINE void ScaleAndStore(const float* totals, float scale, int64_t rows,
                              float* y) {
  const VF vscale = hn::Set(F32(), scale);
  const VF y0 = hn::Mul(hn::Load(F32(), totals), vscale);
  const VF y1 = hn::Mul(hn::Load(F32(), totals + kLanes), vscale);
  if (rows >= kVectors * kLanes) {
    hn::StoreU(y0, F32(), y);
    hn::StoreU(y1, F32(), y + kLanes);
  } else if (rows > 0) {
    HWY_ALIGN float some[kVectors * kLanes];
    hn::Store(y0, F32(), some);
    hn::Store(y1, F32(), some + kLanes);
    std::memcpy(y, some, static_cast<size_t>(rows) * sizeof(float));
  }
}

// Rows [row, row + kVectors * kLanes) of the panel times tokens
// [token, token + kTokens) of the tile.
template <int kBits, int kTokens>
HWY_NOINLINE void MultiplyTile(const Product& product, const Tile& tile,
                               int64_t row, int64_t token) {
  constexpr int64_t kStepBytes = kPanelRows * kBits;
  constexpr int kRows = kVectors * kLanes;
  const int64_t x_stride_bytes = 4 * (kLanes == 16 ? kTokens : tile.tokens);
  HWY_ALIGN float totals[kTokens * kRows];
  HWY_UNROLL(24)
  for (int i = 0; i < kTokens * kVectors; ++i) {
    hn::Store(hn::Zero(F32()), F32(), totals + i * kLanes);
  }
  // The lines to be written at the end: a tenth of the time of wide matrices.
  float* y = tile.y + token * product.stride_elems + row;
  for (int t = 0; t < kTokens; ++t) {
    hwy::Prefetch(y + t * product.stride_elems);
    hwy::Prefetch(y + t * product.stride_elems + kRows - 1);
  }
  const uint8_t* w = tile.panel;
  const uint8_t* x = tile.codes + 4 * token;
  const int32_t* offsets = tile.sums + token;
  const int64_t scale_bytes = product.scales_bytes / kPanelRows;
  for (int64_t g = 0; g < product.groups; ++g, offsets += tile.tokens) {
    VI sums[kTokens][kVectors];
    HWY_UNROLL(12)
    for (int t = 0; t < kTokens; ++t) {
      // Codes are unsigned: 2^(bits-1) times the sum of x is too much.
      auto offset = hn::Set(I32(), offsets[t]);
      if (kBits == 8) offset = hn::ShiftLeft<4>(offset);
      sums[t][0] = sums[t][1] = offset;
    }
    const int64_t steps =
        g + 1 < product.groups ? product.group_steps : product.last_group_steps;
    for (int64_t s = 0; s < steps; ++s) {
      HWY_UNROLL(4)
      for (int line = 0; line < kStepBytes; line += 64) {
        hwy::Prefetch(w + tile.ahead_bytes + line);
      }
      MultiplyStep<kBits, kTokens>(w + 4 * row, x, x_stride_bytes, sums);
      w += kStepBytes;
      x += 2 * x_stride_bytes;
    }
    const uint8_t* scales = w + row * scale_bytes;
    const VF scale0 = LoadScales(product.scale_dtype, scales);
    const VF scale1 =
        LoadScales(product.scale_dtype, scales + kLanes * scale_bytes);
    HWY_UNROLL(12)
    for (int t = 0; t < kTokens; ++t) {
      float* total = totals + t * kRows;
      const VF d0 = hn::ConvertTo(F32(), sums[t][0]);
      const VF d1 = hn::ConvertTo(F32(), sums[t][1]);
      hn::Store(hn::Add(hn::Load(F32(), total), hn::Mul(d0, scale0)), F32(),
                total);
      hn::Store(hn::Add(hn::Load(F32(), total + kLanes), hn::Mul(d1, scale1)),
                F32(), total + kLanes);
    }
    w += product.scales_bytes;
  }
  for (int t = 0; t < kTokens; ++t) {
    ScaleAndStore(totals + t * kRows, tile.scales[token + t], tile.rows - row,
                  y + t * product.stride_elems);
  }
}

// Calls MultiplyTile with as many tokens as there are, at most kTokens.
template <int kBits, int kTokens>
HWY_INLINE void MultiplyTokens(const Product& product, const Tile& tile,
                               int64_t row, int64_t token, int64_t tokens) {
  if constexpr (kTokens > 1) {
    if (tokens < kTokens) {
      return MultiplyTokens<kBits, kTokens - 1>(product, tile, row, token,
                                                tokens);
    }
  }
  MultiplyTile<kBits, kTokens>(product, tile, row, token);
}

template <int kBits>
HWY_INLINE void MultiplyPanel(const Product& product, const Tile& tile) {
  for (int64_t row = 0; row < kPanelRows; row += kVectors * kLanes) {
    for (int64_t token = 0; token < tile.tokens; token += kTokensAtOnce) {
      MultiplyTokens<kBits, kTokensAtOnce>(product, tile, row, token,
                                           tile.tokens - token);
    }
  }
}

// Weights are fetched this far ahead while they come from memory: 4 KiB are
// enough for one token, 8 KiB give eight tokens a tenth more, further nothing.
constexpr int64_t kAheadBytes = 8192;

// Panels [panel_begin, panel_end) times tiles [tile_begin, tile_end). A panel
// stays in L2 while all its tiles go by: weights are read once.
void MultiplyBlock(const Product& product, int64_t panel_begin,
                   int64_t panel_end, int64_t tile_begin, int64_t tile_end) {
  const ActivationLayout& layout = *product.layout;
  Tile tile;
  for (int64_t p = panel_begin; p < panel_end; ++p) {
    tile.panel = product.weights + p * product.panel_bytes;
    tile.rows = std::min(kPanelRows, product.rows - p * kPanelRows);
    tile.ahead_bytes = kAheadBytes;
    for (int64_t i = tile_begin; i < tile_end; ++i) {
      const int64_t first = layout.TileBegin(i);
      tile.codes = product.activations + layout.CodesOffset(i);
      tile.sums = reinterpret_cast<const int32_t*>(product.activations +
                                                   layout.SumsOffset(i));
      tile.scales = reinterpret_cast<const float*>(product.activations +
                                                   layout.ScalesOffset()) +
                    first;
      tile.tokens = layout.TileTokens(i);
      tile.y = product.y + first * product.stride_elems + p * kPanelRows;
      product.bits == 4 ? MultiplyPanel<4>(product, tile)
                        : MultiplyPanel<8>(product, tile);
      tile.ahead_bytes = 0;
    }
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

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Multiply(const Product& product, int64_t panel_begin, int64_t panel_end,
              int64_t tile_begin, int64_t tile_end) {
  HWY_DYNAMIC_DISPATCH(MultiplyBlock)
  (product, panel_begin, panel_end, tile_begin, tile_end);
}

bool IsAligned(const uint8_t* p) {
  return reinterpret_cast<uintptr_t>(p) % 64 == 0;
}

Product MakeProduct(const PackedIntWeights& weights,
                    const QuantizedActivations& activations, float* y,
                    int64_t stride_elems) {
  const PackedIntLayout& layout = weights.layout;
  Product product;
  product.weights = weights.bytes.data();
  product.panel_bytes = layout.panel_bytes();
  product.rows = layout.rows();
  product.groups = layout.groups();
  product.group_steps = layout.GroupSteps(0);
  product.last_group_steps = layout.GroupSteps(product.groups - 1);
  product.scales_bytes = layout.scales_bytes();
  product.bits = layout.bits();
  product.scale_dtype = layout.scale_dtype();
  product.layout = &activations.layout;
  product.activations = activations.bytes.data();
  product.y = y;
  product.stride_elems = stride_elems;
  return product;
}

}  // namespace internal_matmul_int

void MatMulInt(const PackedIntWeights& weights,
               const QuantizedActivations& activations, absl::Span<float> y,
               int64_t stride_elems, ThreadPool& pool) {
  const int64_t tokens = activations.layout.tokens();
  const int64_t rows = weights.layout.rows();
  QEFF_CHECK(activations.layout.Fits(weights.layout));
  QEFF_CHECK(static_cast<int64_t>(weights.bytes.size()) ==
                 weights.layout.total_bytes() &&
             internal_matmul_int::IsAligned(weights.bytes.data()));
  QEFF_CHECK(static_cast<int64_t>(activations.bytes.size()) ==
                 activations.layout.total_bytes() &&
             internal_matmul_int::IsAligned(activations.bytes.data()));
  QEFF_CHECK(stride_elems >= rows && static_cast<int64_t>(y.size()) >=
                                         (tokens - 1) * stride_elems + rows);
  const auto product = internal_matmul_int::MakeProduct(weights, activations,
                                                        y.data(), stride_elems);
  // Panels are split into runs of tiles when there are few for the threads.
  const int64_t panels = weights.layout.panels();
  const int64_t tiles = activations.layout.tiles();
  const int64_t wanted = int64_t{4} * pool.num_threads();
  const int64_t runs = std::min(tiles, std::max<int64_t>(1, wanted / panels));
  const auto multiply = [&](int64_t panel_begin, int64_t panel_end,
                            int64_t run) {
    internal_matmul_int::Multiply(product, panel_begin, panel_end,
                                  run * tiles / runs, (run + 1) * tiles / runs);
  };
  if (runs == 1) {
    pool.ParallelFor(panels, BalancedGrain(panels, pool.num_threads(), 1),
                     [&](int64_t begin, int64_t end, int /*thread*/) {
                       multiply(begin, end, 0);
                     });
    return;
  }
  pool.ParallelFor(panels * runs, 1,
                   [&](int64_t begin, int64_t end, int /*thread*/) {
                     for (int64_t i = begin; i < end; ++i) {
                       multiply(i / runs, i / runs + 1, i % runs);
                     }
                   });
}

}  // namespace qeff
#endif  // HWY_ONCE
