// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/performance.h"

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(PerformanceTest, PrintsTheFourLines) {
  GenerateTiming timing;
  timing.start_seconds = 10;
  timing.first_token_seconds = 10.5;
  timing.end_seconds = 13;
  timing.prompt_tokens = 4;
  timing.generated_tokens = 11;
  EXPECT_EQ(FormatPerformance(timing),
            "Average Prefill time a.k.a TTFT is= 0.5 sec        \n"
            "Decode is= 4.0 tokens/sec        \n"
            "Total is= 3.33 tokens/sec        \n"
            "Total (E2E) inference time is= 3.0 sec\n");
}

TEST(PerformanceTest, OneTokenHasNoDecodeRate) {
  GenerateTiming timing;
  timing.first_token_seconds = timing.end_seconds = 0.25;
  timing.generated_tokens = 1;
  EXPECT_EQ(timing.decode_tokens_per_second(), 0);
  EXPECT_EQ(timing.total_tokens_per_second(), 0);
  EXPECT_EQ(timing.prefill_seconds(), 0.25);
  EXPECT_EQ(timing.total_seconds(), 0.25);
}

}  // namespace
}  // namespace qeff
