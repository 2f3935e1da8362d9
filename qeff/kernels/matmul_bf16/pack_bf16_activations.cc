// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/matmul_bf16/pack_bf16_activations.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"
#include "qeff/kernels/convert/convert.h"
#include "qeff/kernels/matmul_bf16/packed_bf16_layout.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/dtype.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Pairs that are rounded at once: those of a whole tile stay in L1.
constexpr int64_t kChunkPairs = 256;
// A part of the loop that is worth a thread.
constexpr int64_t kMinElemsPerThread = 32768;

constexpr int64_t kMaxTileTokens = BF16ActivationLayout::kMaxTileTokens;

// Packs pairs [pair_begin, pair_begin + pairs) of the tokens of a tile, whose
// columns from pair_begin on are at `x`.
void PackChunk(const BF16ActivationLayout& layout, int64_t tile,
               int64_t pair_begin, const float* x, int64_t stride_elems,
               uint8_t* packed) {
  const int64_t pairs = std::min(kChunkPairs, layout.pairs() - pair_begin);
  const int64_t cols = std::min(2 * pairs, layout.cols() - 2 * pair_begin);
  const int64_t tokens = layout.TileTokens(tile);
  uint32_t words[kMaxTileTokens][kChunkPairs];
  for (int64_t t = 0; t < tokens; ++t) {
    words[t][pairs - 1] = 0;  // when there is a padding column
    ConvertFromFloat(
        absl::MakeConstSpan(x + t * stride_elems, static_cast<size_t>(cols)),
        DType::kBF16,
        absl::MakeSpan(reinterpret_cast<uint8_t*>(words[t]),
                       static_cast<size_t>(2 * cols)));
  }
  uint8_t* to = packed + layout.TileOffset(tile) + 4 * pair_begin * tokens;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    for (int64_t t = 0; t < tokens; ++t, to += 4) {
      std::memcpy(to, &words[t][pair], 4);
    }
  }
}

}  // namespace

void PackBF16Activations(const BF16ActivationLayout& layout,
                         absl::Span<const float> x, int64_t stride_elems,
                         absl::Span<uint8_t> packed, ThreadPool& pool) {
  QEFF_CHECK(stride_elems >= layout.cols() &&
             static_cast<int64_t>(x.size()) >=
                 (layout.tokens() - 1) * stride_elems + layout.cols());
  QEFF_CHECK(static_cast<int64_t>(packed.size()) == layout.total_bytes());
  const int64_t chunks = (layout.pairs() + kChunkPairs - 1) / kChunkPairs;
  const int64_t count = layout.tiles() * chunks;
  const int64_t chunk_elems = 2 * kChunkPairs * layout.TileTokens(0);
  pool.ParallelFor(count,
                   BalancedGrain(count, pool.num_threads(),
                                 1 + kMinElemsPerThread / chunk_elems),
                   [&](int64_t begin, int64_t end, int /*thread*/) {
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t tile = i / chunks;
                       const int64_t pair_begin = i % chunks * kChunkPairs;
                       const float* from =
                           x.data() + layout.TileBegin(tile) * stride_elems +
                           2 * pair_begin;
                       PackChunk(layout, tile, pair_begin, from, stride_elems,
                                 packed.data());
                     }
                   });
}

}  // namespace qeff
