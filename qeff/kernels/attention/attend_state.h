// SPDX-License-Identifier: Apache-2.0
//
// A call of Attend, in numbers that its loops use. Private to attend.cc.

#ifndef QEFF_KERNELS_ATTENTION_ATTEND_STATE_H_
#define QEFF_KERNELS_ATTENTION_ATTEND_STATE_H_

#include <algorithm>
#include <cstdint>

#include "qeff/kernels/attention/attend.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/util/checked.h"

namespace qeff {
namespace internal_attend {

// Positions whose scores are kept before values are weighed with them: enough
// that rescaling costs nothing, and the scores of a tile stay in L1.
constexpr int64_t kChunk = 256;
// Queries of the largest tile: 2 * 12 sums, two vectors of keys or values and a
// few temporaries fill the 32 registers of AVX-512.
constexpr int64_t kMaxTile = 12;
// Queries for which a chunk is read once from memory: eight tiles.
constexpr int64_t kSpanQueries = 8 * kMaxTile;

// The parts of the caller's scratch, for a span of queries and for a tile.
struct Scratch {
  Scratch() = default;
  Scratch(const KvLayout& layout, uint8_t* base) {
    const int64_t stride = layout.value_stride_elems();
    packed_q = reinterpret_cast<float*>(base);
    totals = packed_q + kSpanQueries * stride;
    maxima = totals + kSpanQueries * stride;
    sums = maxima + kSpanQueries;
    scores = sums + kSpanQueries;
    chunk_totals = scores + kMaxTile * kChunk;
  }

  static int64_t Bytes(const KvLayout& layout) {
    const int64_t floats =
        (2 * kSpanQueries + kMaxTile) * layout.value_stride_elems() +
        2 * kSpanQueries + kMaxTile * kChunk;
    return floats * static_cast<int64_t>(sizeof(float));
  }

  float* packed_q = nullptr;      // for each tile [head_dim][tile's queries]
  float* totals = nullptr;        // [query][value_stride_elems]
  float* maxima = nullptr;        // [query]
  float* sums = nullptr;          // [query], of weights
  float* scores = nullptr;        // [tile's query][kChunk]
  float* chunk_totals = nullptr;  // [tile's query][value_stride_elems]
};

// Queries are counted through the heads of one token after another.
struct Call {
  const KvLayout* layout;
  const uint8_t* region;
  const AttendOptions* options;
  const AttendTokens* tokens;
  Scratch scratch;

  // Position of a query's token, and the positions [Begin, End) that it sees.
  int64_t Position(int64_t query) const {
    return tokens->first_position + query / options->heads;
  }
  int64_t Begin(int64_t query) const {
    const int64_t window = options->sliding_window;
    return window == 0 ? 0 : std::max<int64_t>(0, End(query) - window);
  }
  int64_t End(int64_t query) const { return Position(query) + 1; }

  float Slope(int64_t query) const {
    if (options->slopes.empty()) return 0.0f;
    return options->slopes[static_cast<size_t>(query % options->heads)];
  }
  const float* Q(int64_t query) const {
    return tokens->q.data() + query / options->heads * tokens->q_stride_elems +
           query % options->heads * layout->head_dim();
  }
  float* Out(int64_t query) const {
    return tokens->out.data() +
           query / options->heads * tokens->out_stride_elems +
           query % options->heads * layout->head_dim();
  }
};

// Queries that are computed together; pointers into the scratch.
struct Tile {
  int64_t query;  // the first
  int size;
  float* packed_q;
  float* totals;
  float* maxima;
  float* sums;
};

// Positions of a chunk, counted from its first, that the queries of a tile see:
// both ends rise with the query.
struct Ranges {
  int64_t begin[kMaxTile];
  int64_t end[kMaxTile];
};

inline Ranges RangesOf(const Call& call, const Tile& tile, int64_t chunk) {
  Ranges ranges;
  for (int i = 0; i < tile.size; ++i) {
    const int64_t begin = call.Begin(tile.query + i) - chunk;
    const int64_t end = call.End(tile.query + i) - chunk;
    ranges.begin[i] = std::clamp<int64_t>(begin, 0, kChunk);
    ranges.end[i] = std::clamp<int64_t>(end, 0, kChunk);
  }
  return ranges;
}

}  // namespace internal_attend
}  // namespace qeff

#endif  // QEFF_KERNELS_ATTENTION_ATTEND_STATE_H_
