// SPDX-License-Identifier: Apache-2.0
//
// Fetches bytes that a kernel reads once and in order, weights above all, from
// memory before it needs them, on processors where that helps. For what is in
// the caches already, and for several streams at once, leave fetching to the
// hardware.
//
//   StreamFetcher fetcher;
//   for (; w < end; w += StreamFetcher::kPieceBytes) {
//     fetcher.Reach(w);
//     MultiplyPiece(w);
//   }

#ifndef QEFF_KERNELS_PREFETCH_STREAM_FETCHER_H_
#define QEFF_KERNELS_PREFETCH_STREAM_FETCHER_H_

#include <cstdint>

#include "hwy/cache_control.h"

namespace qeff {

// Fetches a line into the second-level cache: for what is needed some rows or
// pieces later, or while dot products take longer than reading. Of misses of
// the first level a Zen 4 follows 24 at a time, which is 14 GB/s a thread; past
// it MatVec reads bf16 with 22 GB/s instead of 15, float32 is quantized with 18
// instead of 11, and eight tokens of 4 bits take 7 % less time.
HWY_INLINE void FetchIntoL2(const void* address) {
  __builtin_prefetch(address, /*rw=*/0, /*locality=*/2);
}

// Into L2, or into all levels.
template <bool kIntoL2>
HWY_INLINE void FetchLine(const uint8_t* address) {
  kIntoL2 ? FetchIntoL2(address) : hwy::Prefetch(address);
}

// Zen 5 follows a stream within a page. To find the next page and its
// translation takes it hundreds of cycles, so a line of each page is fetched
// long before the rest. Measured with two threads and 4 KiB pages: plain
// reading reaches 45 to 65 GB/s, 73 with a line of each page first.
//
// How lines are fetched matters there, too. One by one, 8 KiB ahead, is what
// MatMulInt does: of plain reading one token then reaches 97 % with int8
// weights where memory reads 52 GB/s, in bursts 4 KiB ahead 96 %, and where it
// reads 82 GB/s decoding gained 4 %. With int4_g128 one by one was 90 % and
// bursts 80 %. Bursts of half and twice the size, and 1 to 8 KiB ahead, are
// slower or the same. Lines one by one 4 KiB ahead took one thread 3 % with
// int4_g32 and one token, 7 to 12 % with 4 and 8 tokens, and more with int8; 16
// KiB is as good as 8 or worse.
//
// Zen 4 follows streams over pages, and what is fetched beside them is in its
// way: of plain reading one token reached 88 to 96 % where memory reads 33 GB/s
// and 66 to 78 % where it reads 59, and since nothing is fetched 98 to 102 and
// 88 to 101 %.
//
// Inline, so that it takes the instruction set of the code around it.
// Not thread-safe.
class StreamFetcher {
 public:
  // Whether this processor is one on which streams that are fetched are read
  // faster: AMD's family 1Ah (Zen 5). Others are not, or were not measured; a
  // fetcher does nothing there. Thread-safe, as is the next.
  static bool Helps();
  // From now on Helps() returns `helps`.
  static void SetHelpsForTest(bool helps);

  static constexpr int64_t kPieceBytes = 1024;

  // Reach fetches lines so far ahead.
  static constexpr int64_t kAheadBytes = 4096;

  // A line of each page is fetched so far ahead.
  static constexpr int64_t kPageBytes = 4096;
  static constexpr int64_t kPageAheadBytes = 16384;

  // To be called before each kPieceBytes of the stream, or more often. Bytes
  // that do not follow the last call's begin a new stream. May fetch up to 17
  // KiB beyond the end of the stream, which is harmless.
  HWY_INLINE void Reach(const uint8_t* bytes) { ReachWith<true>(bytes); }

  // The same for pages only: the caller fetches lines, LineAheadBytes() beyond
  // `bytes`.
  HWY_INLINE void ReachPages(const uint8_t* bytes) { ReachWith<false>(bytes); }

  // kLineAheadBytes where fetching helps. 0 elsewhere, where a fetch of what is
  // read next does no harm.
  static constexpr int64_t kLineAheadBytes = 8192;
  int64_t LineAheadBytes() const { return helps_ ? kLineAheadBytes : 0; }

 private:
  static constexpr uintptr_t kLineBytes = 64;

  template <bool kLines>
  HWY_INLINE void ReachWith(const uint8_t* bytes) {
    if (!helps_) return;
    const uintptr_t at = reinterpret_cast<uintptr_t>(bytes);
    // In the piece before next_: nothing to do yet.
    if (next_ - at - 1 < kPieceBytes) return;
    if (at - next_ >= kAheadBytes) {
      Begin(at, kLines ? kAheadBytes : kLineAheadBytes);
    }
    const uintptr_t ahead = next_ + kPageAheadBytes;
    const uintptr_t page =
        (ahead + kPageBytes - 1) & ~uintptr_t{kPageBytes - 1};
    if (page < ahead + kPieceBytes) Fetch(page);
    for (uintptr_t i = 0; kLines && i < kPieceBytes; i += kLineBytes) {
      Fetch(next_ + kAheadBytes + i);
    }
    next_ += kPieceBytes;
  }

  // What no earlier call of the stream has fetched.
  void Begin(uintptr_t at, uintptr_t ahead_bytes) {
    next_ = at;
    for (uintptr_t i = 0; i <= kPageAheadBytes; i += kPageBytes) Fetch(at + i);
    for (uintptr_t i = 0; i < ahead_bytes; i += kLineBytes) Fetch(at + i);
  }

  static HWY_INLINE void Fetch(uintptr_t address) {
    hwy::Prefetch(reinterpret_cast<const uint8_t*>(address));
  }

  const bool helps_ = Helps();
  uintptr_t next_ = 0;  // the first byte that no burst was made for
};

}  // namespace qeff

#endif  // QEFF_KERNELS_PREFETCH_STREAM_FETCHER_H_
