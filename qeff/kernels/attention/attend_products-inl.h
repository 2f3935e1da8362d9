// SPDX-License-Identifier: Apache-2.0
//
// Per-target: the two products of attention, for a tile of queries and a chunk
// of positions. Private to attend.cc.

#if defined(QEFF_KERNELS_ATTENTION_ATTEND_PRODUCTS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef QEFF_KERNELS_ATTENTION_ATTEND_PRODUCTS_INL_H_
#undef QEFF_KERNELS_ATTENTION_ATTEND_PRODUCTS_INL_H_
#else
#define QEFF_KERNELS_ATTENTION_ATTEND_PRODUCTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "qeff/kernels/attention/attend_state.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/kernels/convert/convert-inl.h"
#include "qeff/kernels/elementwise/float_math-inl.h"
#include "qeff/kernels/prefetch/stream_fetcher.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_attend {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using I32 = hn::RebindToSigned<F32>;
using V = hn::Vec<F32>;
constexpr int kN = static_cast<int>(hn::MaxLanes(F32()));

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

// Into L2: through L1 float32 came at half the rate. Lines of int8 are asked
// for four times, which L1 answers faster.
template <class Elems>
HWY_INLINE void FetchVector(const uint8_t* at) {
  FetchLine<(Elems::kBytes > 1)>(at);
}

// scores[i][p] = q_i times the keys of a block, for p below `count`, rounded up
// to kVectors vectors. Fetches what lies `ahead_bytes` and `next_bytes` behind
// each key.
template <class Elems, int kSize, int kVectors>
HWY_INLINE void ScoreBlock(const KvLayout& layout, const uint8_t* block,
                           int64_t count, int64_t ahead_bytes,
                           int64_t next_bytes, const float* q, float* scores) {
  const float* scales =
      reinterpret_cast<const float*>(block + layout.key_scales_offset());
  const int64_t head_dim = layout.head_dim();
  for (int64_t p = 0; p < count; p += kVectors * kN) {
    V sums[kSize][kVectors];
    HWY_UNROLL(12)
    for (int i = 0; i < kSize; ++i) {
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) sums[i][v] = hn::Zero(F32());
    }
    const uint8_t* keys = block + p * Elems::kBytes;
    for (int64_t d = 0; d < head_dim; ++d) {
      V key[kVectors];
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) {
        key[v] = Elems::Load(keys + v * kN * Elems::kBytes);
        FetchVector<Elems>(keys + v * kN * Elems::kBytes + ahead_bytes);
        FetchVector<Elems>(keys + v * kN * Elems::kBytes + next_bytes);
      }
      HWY_UNROLL(12)
      for (int i = 0; i < kSize; ++i) {
        const V qi = hn::Set(F32(), q[d * kSize + i]);
        HWY_UNROLL(2)
        for (int v = 0; v < kVectors; ++v) {
          sums[i][v] =
              ::qeff::HWY_NAMESPACE::FusedMulAdd(F32(), qi, key[v], sums[i][v]);
        }
      }
      keys += kKvBlockPositions * Elems::kBytes;
    }
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = p + v * kN;
      HWY_UNROLL(12)
      for (int i = 0; i < kSize; ++i) {
        if (Elems::kScaled) {
          sums[i][v] = hn::Mul(sums[i][v], hn::LoadU(F32(), scales + at));
        }
        hn::StoreU(sums[i][v], F32(), scores + i * kChunk + at);
      }
    }
  }
}

// Scores of positions [begin, end) of the chunk, and of some around them. A
// `cold` chunk comes from memory: the values of a block and the keys of the
// next are fetched meanwhile, and the keys of the next chunk while values are
// weighed. Hardware does not follow two streams in turns; fetching doubles the
// rate of one token's step.
template <class Elems, int kSize>
HWY_NOINLINE void ScoreTile(const Call& call, const Tile& tile,
                            const uint8_t* chunk, int64_t begin, int64_t end,
                            bool cold) {
  const int64_t block_bytes = call.layout->block_bytes();
  const int64_t ahead_bytes = cold ? call.layout->values_offset() : 0;
  // Of float32 the hardware fetches as much by itself.
  const int64_t next_bytes = cold && Elems::kBytes < 4 ? block_bytes : 0;
  int64_t p = begin / kKvBlockPositions * kKvBlockPositions;
  for (; p < end; p += kKvBlockPositions) {
    const uint8_t* block = chunk + p / kKvBlockPositions * block_bytes;
    float* scores = call.scratch.scores + p;
    // The last block of a prompt's tokens is half empty on average.
    if (end - p <= kN) {
      ScoreBlock<Elems, kSize, 1>(*call.layout, block, end - p, ahead_bytes,
                                  next_bytes, tile.packed_q, scores);
    } else {
      ScoreBlock<Elems, kSize, 2>(
          *call.layout, block, std::min(kKvBlockPositions, end - p),
          ahead_bytes, next_bytes, tile.packed_q, scores);
    }
  }
}

template <class Elems, int kSize = kLargestTile>
HWY_INLINE void ScoreChunk(const Call& call, const Tile& tile,
                           const uint8_t* chunk, int64_t begin, int64_t end,
                           bool cold) {
  if constexpr (kSize > 1) {
    if (tile.size < kSize) {
      return ScoreChunk<Elems, NextTile(kSize)>(call, tile, chunk, begin, end,
                                                cold);
    }
  }
  ScoreTile<Elems, kSize>(call, tile, chunk, begin, end, cold);
}

// sums[i][d...] += weights[i][j] * value[j][d...] for positions [begin, end) of
// the chunk, kSize queries and kVectors vectors; `values` are the chunk's
// first.
template <class Elems, int kSize, int kVectors>
HWY_INLINE void WeighSlice(const KvLayout& layout, const uint8_t* values,
                           const float* weights, int64_t begin, int64_t end,
                           int64_t ahead_bytes, float* sums) {
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
        FetchVector<Elems>(row + v * kN * Elems::kBytes + ahead_bytes);
      }
      HWY_UNROLL(12)
      for (int i = 0; i < kSize; ++i) {
        const V weight = hn::Set(F32(), weights[i * kChunk + j]);
        HWY_UNROLL(4)
        for (int v = 0; v < kVectors; ++v) {
          s[i][v] = ::qeff::HWY_NAMESPACE::FusedMulAdd(F32(), weight, value[v],
                                                       s[i][v]);
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
               const float* weights, int64_t begin, int64_t end,
               int64_t ahead_bytes, float* sums) {
  constexpr int kVectors = kSize >= 6 ? 2 : 4;
  const uint8_t* values = chunk + layout.values_offset();
  const int64_t stride = layout.value_stride_elems();
  int64_t d = 0;
  for (; d + kVectors * kN <= stride; d += kVectors * kN) {
    WeighSlice<Elems, kSize, kVectors>(layout, values + d * Elems::kBytes,
                                       weights, begin, end, ahead_bytes,
                                       sums + d);
  }
  for (; d < stride; d += kN) {
    WeighSlice<Elems, kSize, 1>(layout, values + d * Elems::kBytes, weights,
                                begin, end, ahead_bytes, sums + d);
  }
}

// For queries [first, last) of the tile, all of which see [begin, end).
template <class Elems, int kSize = kLargestTile>
HWY_INLINE void WeighRange(const Call& call, const uint8_t* chunk, int first,
                           int last, int64_t begin, int64_t end,
                           int64_t ahead_bytes) {
  for (; last - first >= kSize; first += kSize) {
    WeighTile<Elems, kSize>(
        *call.layout, chunk, call.scratch.scores + first * kChunk, begin, end,
        ahead_bytes,
        call.scratch.chunk_totals + first * call.layout->value_stride_elems());
  }
  if constexpr (kSize > 1) {
    WeighRange<Elems, NextTile(kSize)>(call, chunk, first, last, begin, end,
                                       ahead_bytes);
  }
}

// Cuts the positions where the queries that see them change, so that no query
// meets a value that it does not see, be it NaN.
template <class Elems>
HWY_INLINE void WeighChunk(const Call& call, const Tile& tile,
                           const uint8_t* chunk, const Ranges& ranges,
                           int64_t ahead_bytes) {
  const int64_t end = ranges.end[tile.size - 1];
  int first = 0, last = 0;
  for (int64_t j = ranges.begin[0]; j < end;) {
    while (ranges.end[first] <= j) ++first;
    while (last < tile.size && ranges.begin[last] <= j) ++last;
    int64_t next = ranges.end[first];
    if (last < tile.size) next = std::min(next, ranges.begin[last]);
    WeighRange<Elems>(call, chunk, first, last, j, next, ahead_bytes);
    j = next;
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace internal_attend
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#endif  // QEFF_KERNELS_ATTENTION_ATTEND_PRODUCTS_INL_H_
