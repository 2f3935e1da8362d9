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
#include <limits>

#include "hwy/highway.h"
#include "qeff/kernels/attention/attend_products-inl.h"
#include "qeff/kernels/attention/attend_state.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/kernels/elementwise/float_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_attend {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Scores are in units of ln 2: powers of two are simpler than those of e.
constexpr float kLog2E = 1.44269504f;

// Lanes that the sum of weights has on every target.
constexpr int kSumLanes = 16;
constexpr int kSumVectors = kSumLanes / kN;

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

#if HWY_TARGET == HWY_SCALAR

HWY_INLINE int64_t PackFourRows(const float* const (&)[4], int64_t, float,
                                int64_t, float*) {
  return 0;
}

HWY_INLINE float SumLanes(F32, V v) { return hn::GetLane(v); }

#else

// Transposes four rows of q: to[d * stride + i] = scale * rows[i][d] for
// i < 4 and d < count, as far as whole vectors go. Returns how far.
HWY_INLINE int64_t PackFourRows(const float* const (&rows)[4], int64_t count,
                                float scale, int64_t stride, float* to) {
  const hn::Full128<float> df;
  const hn::Full128<double> pairs;
  const auto vscale = hn::Set(df, scale);
  int64_t d = 0;
  for (; d + 4 <= count; d += 4, to += 4 * stride) {
    const auto r0 = hn::Mul(hn::LoadU(df, rows[0] + d), vscale);
    const auto r1 = hn::Mul(hn::LoadU(df, rows[1] + d), vscale);
    const auto r2 = hn::Mul(hn::LoadU(df, rows[2] + d), vscale);
    const auto r3 = hn::Mul(hn::LoadU(df, rows[3] + d), vscale);
    // Rows 0 and 1 of columns 0 and 1, then of columns 2 and 3.
    const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(df, r0, r1));
    const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(df, r2, r3));
    const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(df, r0, r1));
    const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(df, r2, r3));
    const auto store = [&](hn::Vec<hn::Full128<double> > column, int64_t at) {
      hn::StoreU(hn::BitCast(df, column), df, to + at * stride);
    };
    store(hn::InterleaveLower(pairs, low01, low23), 0);
    store(hn::InterleaveUpper(pairs, low01, low23), 1);
    store(hn::InterleaveLower(pairs, high01, high23), 2);
    store(hn::InterleaveUpper(pairs, high01, high23), 3);
  }
  return d;
}

// Adds lane l and l + 8, then l + 4, l + 2, l + 1, as far as there are lanes.
template <class D>
HWY_INLINE float SumLanes(D /*d*/, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) == 1) {
    return hn::GetLane(v);
  } else {
    const hn::Half<D> half;
    return SumLanes(half,
                    hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

// Transposes scale * q, and clears what a tile accumulates.
void PackQueries(const Call& call, const Tile& tile) {
  const int64_t head_dim = call.layout->head_dim();
  const float scale = call.options->scale * kLog2E;
  for (int first = 0; first < tile.size; first += 4) {
    const int count = std::min(4, tile.size - first);
    const float* rows[4];
    for (int i = 0; i < count; ++i) rows[i] = call.Q(tile.query + first + i);
    float* to = tile.packed_q + first;
    int64_t d = 0;
    if (count == 4) d = PackFourRows(rows, head_dim, scale, tile.size, to);
    for (; d < head_dim; ++d) {
      for (int i = 0; i < count; ++i) {
        to[d * tile.size + i] = rows[i][d] * scale;
      }
    }
  }
  std::fill_n(tile.maxima, tile.size, -kInfinity);
  std::fill_n(tile.sums, tile.size, 0.0f);
  std::fill_n(tile.totals, tile.size * call.layout->value_stride_elems(), 0.0f);
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

// Lane l and l + 8, l + 4, l + 2, l + 1 of the kSumLanes lanes.
HWY_INLINE float SumTree(V (&sums)[kSumVectors]) {
  for (int half = kSumVectors / 2; half >= 1; half /= 2) {
    for (int v = 0; v < half; ++v) sums[v] = hn::Add(sums[v], sums[v + half]);
  }
  return SumLanes(F32(), sums[0]);
}

// scores = 2^(scores - max), times the scales of values when there are any.
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
      V weight = ::qeff::HWY_NAMESPACE::PowerOfTwoNotPositive(
          F32(), hn::Sub(hn::LoadU(F32(), at), vmax));
      sums[v] = hn::Add(sums[v], weight);
      if (Elems::kScaled) {
        const int64_t p = j % kKvBlockPositions + v * kN;
        weight = hn::Mul(weight, hn::LoadU(F32(), scales + p));
      }
      hn::StoreU(weight, F32(), at);
    }
  }
  return SumTree(sums);
}

// Adds the ALiBi term to the scores of query i and blots out what it does not
// see, up to whole groups of kSumLanes. Returns the largest.
HWY_INLINE float MaskScores(const Call& call, const Tile& tile, int i,
                            int64_t chunk_begin, const Ranges& ranges) {
  float* scores = call.scratch.scores + i * kChunk;
  const int64_t begin = ranges.begin[i] / kSumLanes * kSumLanes;
  const int64_t end = RoundUp<int64_t>(ranges.end[i], kSumLanes);
  const float slope = call.Slope(tile.query + i);
  if (slope != 0) {
    const int64_t query = call.Position(tile.query + i) - chunk_begin;
    AddSlope(slope * kLog2E, query, begin, end, scores);
  }
  std::fill(scores + begin, scores + ranges.begin[i], -kInfinity);
  std::fill(scores + ranges.end[i], scores + end, -kInfinity);
  return MaxOf(scores, begin, end);
}

// Turns the scores of the tile into weights, and updates its maxima and sums.
// factors[i] is that of what query i summed before.
template <class Elems>
HWY_INLINE void SoftenTile(const Call& call, const Tile& tile,
                           const uint8_t* chunk, int64_t chunk_begin,
                           const Ranges& ranges, float (&factors)[kSumLanes]) {
  float subtracted[kMaxTile];
  for (int i = 0; i < tile.size; ++i) {
    factors[i] = subtracted[i] = 0.0f;
    if (ranges.begin[i] >= ranges.end[i]) continue;
    const float old = tile.maxima[i];
    const float max =
        std::max(old, MaskScores(call, tile, i, chunk_begin, ranges));
    // Weights of nothing but -infinity are 0.
    subtracted[i] = max == -kInfinity ? 0.0f : max;
    factors[i] = old - subtracted[i];
    tile.maxima[i] = max;
  }
  for (int i = 0; i < tile.size; i += kN) {
    hn::Store(::qeff::HWY_NAMESPACE::PowerOfTwoNotPositive(
                  F32(), hn::Load(F32(), factors + i)),
              F32(), factors + i);
  }
  for (int i = 0; i < tile.size; ++i) {
    if (ranges.begin[i] >= ranges.end[i]) continue;
    const float sum =
        Exponentiate<Elems>(*call.layout, chunk, subtracted[i],
                            ranges.begin[i] / kSumLanes * kSumLanes,
                            RoundUp<int64_t>(ranges.end[i], kSumLanes),
                            call.scratch.scores + i * kChunk);
    tile.sums[i] = tile.sums[i] * factors[i] + sum;
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

// Adds what the tile sees of the chunk that begins at position `chunk_begin`,
// which is `cold` for the first tile.
template <class Elems>
void AttendChunk(const Call& call, const Tile& tile, int64_t chunk_begin,
                 bool cold) {
  const int64_t stride = call.layout->value_stride_elems();
  const Ranges ranges = RangesOf(call, tile, chunk_begin);
  const int64_t begin = ranges.begin[0], end = ranges.end[tile.size - 1];
  if (begin >= end) return;
  const uint8_t* chunk = call.region + chunk_begin / kKvBlockPositions *
                                           call.layout->block_bytes();
  ScoreChunk<Elems>(call, tile, chunk, begin, end, cold);
  HWY_ALIGN float factors[kSumLanes] = {};
  SoftenTile<Elems>(call, tile, chunk, chunk_begin, ranges, factors);
  std::fill_n(call.scratch.chunk_totals, tile.size * stride, 0.0f);
  // From a value to the key of the next chunk at the same place.
  const int64_t ahead_bytes =
      cold ? kChunk / kKvBlockPositions * call.layout->block_bytes() -
                 call.layout->values_offset()
           : 0;
  WeighChunk<Elems>(call, tile, chunk, ranges, ahead_bytes);
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
