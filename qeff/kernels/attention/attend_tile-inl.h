// SPDX-License-Identifier: Apache-2.0
//
// Per-target: a tile of queries and a chunk of positions. Private to attend.cc.

#if defined(QEFF_KERNELS_ATTENTION_ATTEND_TILE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_ATTENTION_ATTEND_TILE_INL_H_
#undef QEFF_KERNELS_ATTENTION_ATTEND_TILE_INL_H_
#else
#define QEFF_KERNELS_ATTENTION_ATTEND_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "hwy/highway.h"
#include "qeff/kernels/attention/attend_state.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/kernels/elementwise/float_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_attend {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using I32 = hn::RebindToSigned<F32>;
using V = hn::Vec<F32>;
constexpr int kN = static_cast<int>(hn::MaxLanes(F32()));

// Lanes that the sum of weights has on every target.
constexpr int kSumLanes = 16;
constexpr int kSumVectors = kSumLanes / kN;

// Sizes of tiles, in falling order: what registers hold.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || \
    HWY_TARGET == HWY_NEON
constexpr int kLargestTile = 12;
#else
constexpr int kLargestTile = 6;  // 16 registers
#endif

constexpr int NextTile(int size) {
  return size == 12 ? 8 : size == 8 || size == 6 ? 4 : size / 2;
}

inline int TileSize(int64_t queries) {
  int size = kLargestTile;
  while (size > queries) size = NextTile(size);
  return size;
}

// Elements of the cache as floats. kScaled: times a scale of the position.
struct F32Elems {
  static constexpr int64_t kBytes = 4;
  static constexpr bool kScaled = false;
  static HWY_INLINE V Load(const uint8_t* from) {
    return hn::LoadU(F32(), reinterpret_cast<const float*>(from));
  }
};

struct F16Elems {
  static constexpr int64_t kBytes = 2;
  static constexpr bool kScaled = false;
  static HWY_INLINE V Load(const uint8_t* from) {
    // StoreKv writes quiet NaN only, which the hardware's conversion keeps.
    return ::qeff::HWY_NAMESPACE::F16Bytes::LoadNumbers(F32(), from);
  }
};

struct I8Elems {
  static constexpr int64_t kBytes = 1;
  static constexpr bool kScaled = true;
  static HWY_INLINE V Load(const uint8_t* from) {
    const hn::Rebind<int8_t, F32> d8;
    const auto codes = hn::LoadU(d8, reinterpret_cast<const int8_t*>(from));
    return hn::ConvertTo(F32(), hn::PromoteTo(I32(), codes));
  }
};

HWY_INLINE Tile MakeTile(const Call& call, int64_t query, int index, int size) {
  const int64_t stride = call.layout->value_stride_elems();
  Tile tile;
  tile.query = query;
  tile.size = size;
  tile.packed_q = call.scratch.packed_q + index * stride;
  tile.totals = call.scratch.totals + index * stride;
  tile.maxima = call.scratch.maxima + index;
  tile.sums = call.scratch.sums + index;
  return tile;
}

// Transposes scale * q, and clears what a tile accumulates.
void PackQueries(const Call& call, const Tile& tile) {
  const int64_t head_dim = call.layout->head_dim();
  const int64_t stride = call.layout->value_stride_elems();
  for (int i = 0; i < tile.size; ++i) {
    const float* q = call.Q(tile.query + i);
    for (int64_t d = 0; d < head_dim; ++d) {
      tile.packed_q[d * tile.size + i] = q[d] * call.options->scale;
    }
    tile.maxima[i] = -std::numeric_limits<float>::infinity();
    tile.sums[i] = 0.0f;
  }
  std::fill_n(tile.totals, tile.size * stride, 0.0f);
}

// scores[i][0..32) = q_i times the keys of a block.
template <class Elems, int kSize>
void ScoreBlock(const KvLayout& layout, const uint8_t* block, const float* q,
                float* scores) {
  constexpr int kVectors = 2;
  const float* scales =
      reinterpret_cast<const float*>(block + layout.key_scales_offset());
  const int64_t head_dim = layout.head_dim();
  for (int64_t p = 0; p < kKvBlockPositions; p += kVectors * kN) {
    V sums[kSize][kVectors];
    HWY_UNROLL(12)
    for (int i = 0; i < kSize; ++i) sums[i][0] = sums[i][1] = hn::Zero(F32());
    const uint8_t* keys = block + p * Elems::kBytes;
    for (int64_t d = 0; d < head_dim; ++d) {
      const V k0 = Elems::Load(keys);
      const V k1 = Elems::Load(keys + kN * Elems::kBytes);
      HWY_UNROLL(12)
      for (int i = 0; i < kSize; ++i) {
        const V qi = hn::Set(F32(), q[d * kSize + i]);
        sums[i][0] = hn::Add(sums[i][0], hn::Mul(qi, k0));
        sums[i][1] = hn::Add(sums[i][1], hn::Mul(qi, k1));
      }
      keys += kKvBlockPositions * Elems::kBytes;
    }
    HWY_UNROLL(12)
    for (int i = 0; i < kSize; ++i) {
      if (Elems::kScaled) {
        const V scale0 = hn::LoadU(F32(), scales + p);
        const V scale1 = hn::LoadU(F32(), scales + p + kN);
        sums[i][0] = hn::Mul(sums[i][0], scale0);
        sums[i][1] = hn::Mul(sums[i][1], scale1);
      }
      hn::StoreU(sums[i][0], F32(), scores + i * kChunk + p);
      hn::StoreU(sums[i][1], F32(), scores + i * kChunk + p + kN);
    }
  }
}

// Scores of the blocks that hold positions [begin, end) of the chunk.
template <class Elems, int kSize = kLargestTile>
HWY_INLINE void ScoreChunk(const Call& call, const Tile& tile,
                           const uint8_t* chunk, int64_t begin, int64_t end) {
  if constexpr (kSize > 1) {
    if (tile.size < kSize) {
      return ScoreChunk<Elems, NextTile(kSize)>(call, tile, chunk, begin, end);
    }
  }
  const int64_t first = begin / kKvBlockPositions * kKvBlockPositions;
  for (int64_t p = first; p < end; p += kKvBlockPositions) {
    ScoreBlock<Elems, kSize>(
        *call.layout,
        chunk + p / kKvBlockPositions * call.layout->block_bytes(),
        tile.packed_q, call.scratch.scores + p);
  }
}

// scores[j] += slope * (j - query), both counted from the chunk's first.
HWY_INLINE void AddSlope(float slope, int64_t query, int64_t begin, int64_t end,
                         float* scores) {
  const I32 di;
  const V vslope = hn::Set(F32(), slope);
  for (int64_t j = begin; j < end; j += kN) {
    const auto distance = hn::Iota(di, static_cast<int32_t>(j - query));
    const V bias = hn::Mul(vslope, hn::ConvertTo(F32(), distance));
    hn::StoreU(hn::Add(hn::LoadU(F32(), scores + j), bias), F32(), scores + j);
  }
}

HWY_INLINE float MaxOf(const float* scores, int64_t begin, int64_t end) {
  V max = hn::LoadU(F32(), scores + begin);
  for (int64_t j = begin + kN; j < end; j += kN) {
    max = hn::Max(max, hn::LoadU(F32(), scores + j));
  }
  return hn::GetLane(hn::MaxOfLanes(F32(), max));
}

// scores = e^(scores - max), times the scales of values when there are any.
// Returns the sum of what is not scaled: lane j % 16, then a tree.
template <class Elems>
HWY_INLINE float Exponentiate(const KvLayout& layout, const uint8_t* chunk,
                              float max, int64_t begin, int64_t end,
                              float* scores) {
  const V vmax = hn::Set(F32(), max);
  V sums[kSumVectors];
  for (int v = 0; v < kSumVectors; ++v) sums[v] = hn::Zero(F32());
  for (int64_t j = begin; j < end; j += kSumLanes) {
    const float* scales = reinterpret_cast<const float*>(
        chunk + j / kKvBlockPositions * layout.block_bytes() +
        layout.value_scales_offset());
    HWY_UNROLL(16)
    for (int v = 0; v < kSumVectors; ++v) {
      float* at = scores + j + v * kN;
      V weight = ::qeff::HWY_NAMESPACE::ExpNotPositive(
          F32(), hn::Sub(hn::LoadU(F32(), at), vmax));
      sums[v] = hn::Add(sums[v], weight);
      if (Elems::kScaled) {
        const int64_t p = j % kKvBlockPositions + v * kN;
        weight = hn::Mul(weight, hn::LoadU(F32(), scales + p));
      }
      hn::StoreU(weight, F32(), at);
    }
  }
  HWY_ALIGN float lanes[kSumLanes];
  for (int v = 0; v < kSumVectors; ++v) {
    hn::Store(sums[v], F32(), lanes + v * kN);
  }
  for (int half = kSumLanes / 2; half >= 1; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// Turns the scores of query i into weights. Returns the factor of what was
// summed before.
template <class Elems>
HWY_INLINE float Soften(const Call& call, const Tile& tile, int i,
                        const uint8_t* chunk, int64_t chunk_begin,
                        const Ranges& ranges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  float* scores = call.scratch.scores + i * kChunk;
  const int64_t begin = ranges.begin[i] / kSumLanes * kSumLanes;
  const int64_t end = RoundUp<int64_t>(ranges.end[i], kSumLanes);
  const float slope = call.Slope(tile.query + i);
  if (slope != 0) {
    AddSlope(slope, call.Position(tile.query + i) - chunk_begin, begin, end,
             scores);
  }
  std::fill(scores + begin, scores + ranges.begin[i], -kInfinity);
  std::fill(scores + ranges.end[i], scores + end, -kInfinity);
  const float old = tile.maxima[i];
  const float max = std::max(old, MaxOf(scores, begin, end));
  // Weights of nothing but -infinity are 0.
  const float subtracted = max == -kInfinity ? 0.0f : max;
  const float sum =
      Exponentiate<Elems>(*call.layout, chunk, subtracted, begin, end, scores);
  const V factor = ::qeff::HWY_NAMESPACE::ExpNotPositive(
      F32(), hn::Set(F32(), old - subtracted));
  tile.maxima[i] = max;
  tile.sums[i] = tile.sums[i] * hn::GetLane(factor) + sum;
  return hn::GetLane(factor);
}

// sums[i][d...] += weights[i][j] * value[j][d...] for positions [begin, end) of
// the chunk, kSize queries and kVectors vectors; `values` are the chunk's
// first.
template <class Elems, int kSize, int kVectors>
HWY_INLINE void WeighSlice(const KvLayout& layout, const uint8_t* values,
                           const float* weights, int64_t begin, int64_t end,
                           float* sums) {
  const int64_t stride = layout.value_stride_elems();
  const int64_t row_bytes = layout.value_row_bytes();
  V s[kSize][kVectors];
  HWY_UNROLL(12)
  for (int i = 0; i < kSize; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      s[i][v] = hn::LoadU(F32(), sums + i * stride + v * kN);
    }
  }
  for (int64_t j = begin; j < end;) {
    const int64_t block = j / kKvBlockPositions;
    const int64_t block_end = std::min(end, (block + 1) * kKvBlockPositions);
    const uint8_t* row = values + block * layout.block_bytes() +
                         j % kKvBlockPositions * row_bytes;
    for (; j < block_end; ++j, row += row_bytes) {
      V value[kVectors];
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        value[v] = Elems::Load(row + v * kN * Elems::kBytes);
      }
      HWY_UNROLL(12)
      for (int i = 0; i < kSize; ++i) {
        const V weight = hn::Set(F32(), weights[i * kChunk + j]);
        HWY_UNROLL(4)
        for (int v = 0; v < kVectors; ++v) {
          s[i][v] = hn::Add(s[i][v], hn::Mul(weight, value[v]));
        }
      }
    }
  }
  HWY_UNROLL(12)
  for (int i = 0; i < kSize; ++i) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(s[i][v], F32(), sums + i * stride + v * kN);
    }
  }
}

template <class Elems, int kSize>
void WeighTile(const KvLayout& layout, const uint8_t* chunk,
               const float* weights, int64_t begin, int64_t end, float* sums) {
  constexpr int kVectors = kSize >= 6 ? 2 : 4;
  const uint8_t* values = chunk + layout.values_offset();
  const int64_t stride = layout.value_stride_elems();
  int64_t d = 0;
  for (; d + kVectors * kN <= stride; d += kVectors * kN) {
    WeighSlice<Elems, kSize, kVectors>(layout, values + d * Elems::kBytes,
                                       weights, begin, end, sums + d);
  }
  for (; d < stride; d += kN) {
    WeighSlice<Elems, kSize, 1>(layout, values + d * Elems::kBytes, weights,
                                begin, end, sums + d);
  }
}

// For queries [first, last) of the tile, all of which see [begin, end).
template <class Elems, int kSize = kLargestTile>
HWY_INLINE void WeighRange(const Call& call, const uint8_t* chunk, int first,
                           int last, int64_t begin, int64_t end) {
  for (; last - first >= kSize; first += kSize) {
    WeighTile<Elems, kSize>(
        *call.layout, chunk, call.scratch.scores + first * kChunk, begin, end,
        call.scratch.chunk_totals + first * call.layout->value_stride_elems());
  }
  if constexpr (kSize > 1) {
    WeighRange<Elems, NextTile(kSize)>(call, chunk, first, last, begin, end);
  }
}

// Cuts the positions where the queries that see them change, so that no query
// meets a value that it does not see, be it NaN.
template <class Elems>
HWY_INLINE void WeighChunk(const Call& call, const Tile& tile,
                           const uint8_t* chunk, const Ranges& ranges) {
  const int64_t end = ranges.end[tile.size - 1];
  int first = 0, last = 0;
  for (int64_t j = ranges.begin[0]; j < end;) {
    while (ranges.end[first] <= j) ++first;
    while (last < tile.size && ranges.begin[last] <= j) ++last;
    int64_t next = ranges.end[first];
    if (last < tile.size) next = std::min(next, ranges.begin[last]);
    WeighRange<Elems>(call, chunk, first, last, j, next);
    j = next;
  }
}

// totals = totals * factor + the chunk's.
HWY_INLINE void AddChunkTotals(float factor, const float* chunk_totals,
                               int64_t stride, float* totals) {
  const V vfactor = hn::Set(F32(), factor);
  for (int64_t d = 0; d < stride; d += kN) {
    const V scaled = hn::Mul(hn::LoadU(F32(), totals + d), vfactor);
    hn::StoreU(hn::Add(scaled, hn::LoadU(F32(), chunk_totals + d)), F32(),
               totals + d);
  }
}

// Adds what the tile sees of the chunk that begins at position `chunk_begin`.
template <class Elems>
void AttendChunk(const Call& call, const Tile& tile, int64_t chunk_begin) {
  const int64_t stride = call.layout->value_stride_elems();
  const Ranges ranges = RangesOf(call, tile, chunk_begin);
  const int64_t begin = ranges.begin[0], end = ranges.end[tile.size - 1];
  if (begin >= end) return;
  const uint8_t* chunk = call.region + chunk_begin / kKvBlockPositions *
                                           call.layout->block_bytes();
  ScoreChunk<Elems>(call, tile, chunk, begin, end);
  float factors[kMaxTile];
  for (int i = 0; i < tile.size; ++i) {
    if (ranges.begin[i] >= ranges.end[i]) continue;
    factors[i] = Soften<Elems>(call, tile, i, chunk, chunk_begin, ranges);
  }
  std::fill_n(call.scratch.chunk_totals, tile.size * stride, 0.0f);
  WeighChunk<Elems>(call, tile, chunk, ranges);
  for (int i = 0; i < tile.size; ++i) {
    if (ranges.begin[i] >= ranges.end[i]) continue;
    AddChunkTotals(factors[i], call.scratch.chunk_totals + i * stride, stride,
                   tile.totals + i * stride);
  }
}

void StoreOutputs(const Call& call, const Tile& tile) {
  const int64_t stride = call.layout->value_stride_elems();
  const size_t head_dim = static_cast<size_t>(call.layout->head_dim());
  for (int i = 0; i < tile.size; ++i) {
    const V inverse = hn::Set(F32(), 1.0f / tile.sums[i]);
    const float* totals = tile.totals + i * stride;
    ::qeff::HWY_NAMESPACE::MapRow(
        head_dim, call.Out(tile.query + i),
        [=](V total) { return hn::Mul(total, inverse); }, totals);
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace internal_attend
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_ATTENTION_ATTEND_TILE_INL_H_
