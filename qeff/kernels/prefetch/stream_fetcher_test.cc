// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/prefetch/stream_fetcher.h"

#include <cstdint>

#include "gtest/gtest.h"
#include "qeff/util/aligned.h"

namespace qeff {
namespace {

// What is fetched shows in time only; that fetching beyond the end of memory
// is harmless shows here.
TEST(StreamFetcherTest, ReachesBeyondTheEndOfMemory) {
  AlignedArray<uint8_t> bytes(10 * StreamFetcher::kPieceBytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = 1;
  StreamFetcher fetcher;
  int sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % 64 == 0) fetcher.Reach(bytes.data() + i);
    sum += bytes[i];
  }
  EXPECT_EQ(sum, 10 * StreamFetcher::kPieceBytes);
}

}  // namespace
}  // namespace qeff
