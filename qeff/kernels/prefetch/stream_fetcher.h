// SPDX-License-Identifier: Apache-2.0
//
// Fetches bytes that a kernel reads once and in order, weights above all, from
// memory before it needs them. For what is in the caches already, and for
// several streams at once, leave fetching to the hardware.
//
//   StreamFetcher fetcher(w);
//   for (; w < end; w += kPieceBytes) {
//     fetcher.Reach(w);
//     MultiplyPiece(w);
//   }

#ifndef QEFF_KERNELS_PREFETCH_STREAM_FETCHER_H_
#define QEFF_KERNELS_PREFETCH_STREAM_FETCHER_H_

#include <cstdint>

#include "hwy/cache_control.h"

namespace qeff {

// Hardware follows a stream within a page. To find the next page and its
// translation takes it hundreds of cycles, so a line of each page is fetched
// long before the rest. Measured on a Zen 5 with two threads and 4 KiB pages:
// plain reading reaches 45 to 65 GB/s, 73 with a line of each page first.
//
// Lines are fetched in bursts, not one by one between the products: MatMulInt
// with int8 weights and one token reads 41 to 48 GB/s with every line fetched
// 8 KiB ahead, 71 with bursts and pages. Bursts of half and of twice the size,
// and 1 to 8 KiB ahead, are slower or the same.
//
// Inline, so that it takes the instruction set of the code around it.
// Not thread-safe.
class StreamFetcher {
 public:
  static constexpr int64_t kPieceBytes = 1024;

  // The stream begins at `bytes`; null: Reach does nothing. May fetch up to 17
  // KiB beyond the end of the stream, which is harmless.
  explicit HWY_INLINE StreamFetcher(const uint8_t* bytes)
      : next_(bytes == nullptr ? ~uintptr_t{0}
                               : reinterpret_cast<uintptr_t>(bytes)) {}

  // To be called before each kPieceBytes, or more often.
  HWY_INLINE void Reach(const uint8_t* bytes) {
    if (reinterpret_cast<uintptr_t>(bytes) < next_) return;
    const uintptr_t ahead = next_ + kPageAheadBytes;
    const uintptr_t page = (ahead + kPageBytes - 1) & ~(kPageBytes - 1);
    if (page < ahead + kPieceBytes) Fetch(page);
    for (uintptr_t i = 0; i < kPieceBytes; i += kLineBytes) {
      Fetch(next_ + kAheadBytes + i);
    }
    next_ += kPieceBytes;
  }

 private:
  static constexpr uintptr_t kLineBytes = 64;
  static constexpr uintptr_t kPageBytes = 4096;
  static constexpr uintptr_t kPageAheadBytes = 16384;
  static constexpr uintptr_t kAheadBytes = 4096;

  static HWY_INLINE void Fetch(uintptr_t address) {
    hwy::Prefetch(reinterpret_cast<const uint8_t*>(address));
  }

  uintptr_t next_;  // the first byte that no burst was made for
};

}  // namespace qeff

#endif  // QEFF_KERNELS_PREFETCH_STREAM_FETCHER_H_
