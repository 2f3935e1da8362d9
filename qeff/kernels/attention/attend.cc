// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/attention/attend.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qeff/kernels/attention/attend.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
// This comment keeps clang-format from sorting these among the others.
#include <algorithm>
#include <cstdint>

#include "qeff/kernels/attention/attend_state.h"
#include "qeff/kernels/attention/attend_tile-inl.h"
#include "qeff/kernels/attention/kv_layout.h"
#include "qeff/util/check.h"

HWY_BEFORE_NAMESPACE();
namespace qeff {
namespace internal_attend {
namespace HWY_NAMESPACE {

constexpr int64_t kLineElems = 16;  // floats of a cache line

// Fetches rows that will be needed a tile later: of a few lines each, which
// hardware does not follow. Waiting for them was a tenth of the time.
HWY_INLINE void FetchRow(const Call& call, const float* row) {
  for (int64_t d = 0; d < call.layout->head_dim(); d += kLineElems) {
    hwy::Prefetch(row + d);
  }
}

void FetchQueries(const Call& call, int64_t query) {
  const int64_t queries = call.tokens->tokens * call.options->heads;
  const int64_t end = std::min(query + kMaxTile, queries);
  for (; query < end; ++query) FetchRow(call, call.Q(query));
}

void FetchOutputs(const Call& call, const Tile& tile) {
  for (int i = 0; i < tile.size; ++i) {
    FetchRow(call, call.Out(tile.query + i));
  }
}

// The first keys, which no others are read before.
void FetchKeys(const Call& call, int64_t position) {
  const uint8_t* block =
      call.region + position / kKvBlockPositions * call.layout->block_bytes();
  for (int64_t i = 0; i < call.layout->key_scales_offset(); i += 64) {
    hwy::Prefetch(block + i);
  }
}

// Queries [first, first + count) of the call, which keys and values go by for.
template <class Elems>
void AttendSpan(const Call& call, int64_t first, int64_t count) {
  Tile tiles[kSpanQueries];
  int num_tiles = 0;
  FetchKeys(call, call.Begin(first));
  for (int64_t at = 0; at < count; at += tiles[num_tiles++].size) {
    tiles[num_tiles] =
        MakeTile(call, first + at, static_cast<int>(at), TileSize(count - at));
  }
  const int64_t end = call.End(first + count - 1);
  const int64_t first_chunk = call.Begin(first) / kChunk * kChunk;
  for (int64_t chunk = first_chunk; chunk < end; chunk += kChunk) {
    const bool is_last = chunk + kChunk >= end;
    for (int i = 0; i < num_tiles; ++i) {
      const Tile& tile = tiles[i];
      if (chunk == first_chunk) {
        PackQueries(call, tile);
        FetchQueries(call, tile.query + tile.size);
      }
      if (is_last) FetchOutputs(call, tile);
      AttendChunk<Elems>(call, tile, chunk, i == 0);
      if (is_last) StoreOutputs(call, tile);
    }
  }
}

template <class Elems>
void AttendElems(const Call& call) {
  const int64_t queries = call.tokens->tokens * call.options->heads;
  for (int64_t first = 0; first < queries; first += kSpanQueries) {
    AttendSpan<Elems>(call, first, std::min(kSpanQueries, queries - first));
  }
}

void AttendAny(const Call& call) {
  switch (call.layout->dtype()) {
    case DType::kI8:
      return AttendElems<I8Elems>(call);
    case DType::kF16:
      return AttendElems<F16Elems>(call);
    default:
      return AttendElems<F32Elems>(call);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace internal_attend
}  // namespace qeff
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qeff {
namespace internal_attend {
HWY_EXPORT(AttendAny);

// HWY_DYNAMIC_DISPATCH names a function of this namespace, also when the
// target is chosen at compile time.
void Run(const Call& call) { HWY_DYNAMIC_DISPATCH(AttendAny)(call); }

void CheckTokens(const AttendTokens& tokens, int64_t row) {
  const int64_t rows = tokens.tokens - 1;
  QEFF_CHECK(tokens.first_position >= 0 && tokens.tokens >= 1);
  QEFF_CHECK(tokens.q_stride_elems >= row && tokens.out_stride_elems >= row);
  QEFF_CHECK(static_cast<int64_t>(tokens.q.size()) >=
                 rows * tokens.q_stride_elems + row &&
             static_cast<int64_t>(tokens.out.size()) >=
                 rows * tokens.out_stride_elems + row);
}

bool IsAligned(const uint8_t* p) {
  return reinterpret_cast<uintptr_t>(p) % 64 == 0;
}

}  // namespace internal_attend

int64_t AttendScratchBytes(const KvLayout& layout) {
  return internal_attend::Scratch::Bytes(layout);
}

void Attend(const KvLayout& layout, absl::Span<const uint8_t> region,
            const AttendOptions& options, const AttendTokens& tokens,
            absl::Span<uint8_t> scratch) {
  QEFF_CHECK(options.heads >= 1 && options.sliding_window >= 0);
  QEFF_CHECK(options.slopes.empty() ||
             static_cast<int64_t>(options.slopes.size()) == options.heads);
  internal_attend::CheckTokens(tokens, options.heads * layout.head_dim());
  QEFF_CHECK(layout.RegionBytes(tokens.first_position + tokens.tokens)
                 .AtMost(static_cast<uint64_t>(region.size())) &&
             internal_attend::IsAligned(region.data()));
  QEFF_CHECK(static_cast<int64_t>(scratch.size()) >=
                 AttendScratchBytes(layout) &&
             internal_attend::IsAligned(scratch.data()));
  internal_attend::Call call;
  call.layout = &layout;
  call.region = region.data();
  call.options = &options;
  call.tokens = &tokens;
  call.scratch = internal_attend::Scratch(layout, scratch.data());
  internal_attend::Run(call);
}

}  // namespace qeff
#endif  // HWY_ONCE
