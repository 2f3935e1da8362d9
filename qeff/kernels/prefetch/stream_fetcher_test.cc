// SPDX-License-Identifier: Apache-2.0

#include "qeff/kernels/prefetch/stream_fetcher.h"

#include <cstdint>
#include <fstream>
#include <string>

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
    FetchIntoL2(bytes.data() + i + bytes.size());
    sum += bytes[i];
  }
  EXPECT_EQ(sum, 10 * StreamFetcher::kPieceBytes);
}

// Beside what the kernel says of the processor.
TEST(StreamFetcherTest, HelpsOnZen5) {
  bool is_amd = false, is_family_26 = false;
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    is_amd |= line == "vendor_id\t: AuthenticAMD";
    is_family_26 |= line == "cpu family\t: 26";
  }
  EXPECT_EQ(StreamFetcher::Helps(), is_amd && is_family_26);
}

TEST(StreamFetcherTest, TestsSayWhetherItHelps) {
  const bool helps = StreamFetcher::Helps();
  StreamFetcher::SetHelpsForTest(!helps);
  EXPECT_EQ(StreamFetcher::Helps(), !helps);
  StreamFetcher::SetHelpsForTest(helps);
  EXPECT_EQ(StreamFetcher::Helps(), helps);
}

}  // namespace
}  // namespace qeff
