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

TEST(PerformanceTest, AddsUpWhatRanSideBySide) {
  GenerateTiming a, b;
  a.start_seconds = 10;
  a.first_token_seconds = 11;
  a.end_seconds = 14;
  a.generated_tokens = 7;
  b.start_seconds = 12;
  b.first_token_seconds = 15;
  b.end_seconds = 20;
  b.generated_tokens = 4;
  const Performance both = Summarize({a, b});
  EXPECT_EQ(both.prefill_seconds, 2);
  EXPECT_EQ(both.decode_tokens_per_second, 1);  // 6 + 3, from 11 to 20
  EXPECT_EQ(both.total_tokens_per_second, 0.9);
  EXPECT_EQ(both.total_seconds, 10);
  const Performance one = Summarize({a});
  EXPECT_EQ(one.prefill_seconds, a.prefill_seconds());
  EXPECT_EQ(one.decode_tokens_per_second, a.decode_tokens_per_second());
  EXPECT_EQ(one.total_tokens_per_second, a.total_tokens_per_second());
  EXPECT_EQ(one.total_seconds, a.total_seconds());
  EXPECT_EQ(Summarize({}).total_seconds, 0);
}

TEST(SpeculationTest, RatesAndText) {
  Speculation speculation;
  EXPECT_EQ(speculation.acceptance_rate(), 0);
  EXPECT_EQ(speculation.tokens_per_pass(), 0);
  speculation.Add({/*proposed=*/6, /*accepted=*/2, /*passes=*/3, /*tokens=*/5});
  speculation.Add({/*proposed=*/2, /*accepted=*/2, /*passes=*/1, /*tokens=*/3});
  EXPECT_EQ(speculation.acceptance_rate(), 0.5);
  EXPECT_EQ(speculation.tokens_per_pass(), 2);
  EXPECT_EQ(FormatSpeculation(speculation),
            "Draft acceptance is= 0.5 (4 of 8), tokens a pass= 2.0\n");
}

}  // namespace
}  // namespace qeff
