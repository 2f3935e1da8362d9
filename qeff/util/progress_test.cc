// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/progress.h"

#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

// A stream in memory and a clock that stands still until it is moved.
class ProgressTest : public testing::Test {
 protected:
  void SetUp() override { stream_ = open_memstream(&text_, &size_); }
  void TearDown() override {
    std::fclose(stream_);
    free(text_);
  }
  ProgressOptions Options(ProgressOptions::Show show) {
    ProgressOptions options;
    options.stream = stream_;
    options.show = show;
    options.clock = [this] { return now_; };
    return options;
  }
  std::string Written() {
    std::fflush(stream_);
    return std::string(text_, size_);
  }

  FILE* stream_ = nullptr;
  char* text_ = nullptr;
  size_t size_ = 0;
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(ProgressTest, ShowsPercentRateAndRemainingTime) {
  Progress progress("work", 200, Options(ProgressOptions::Show::kAlways));
  progress.Advance(50);
  EXPECT_EQ(progress.Line(absl::Seconds(10)),
            "work  25% [#####               ] 50/200  5.0/s  ETA 0:30");
  progress.Advance(1000);  // more than announced
  EXPECT_THAT(progress.Line(absl::Seconds(10)), HasSubstr("100% [#####"));
  EXPECT_THAT(progress.Line(absl::Seconds(10)), HasSubstr("ETA 0:00"));
}

TEST_F(ProgressTest, LongTimesAndUnknownTotals) {
  Progress slow("work", 10001, Options(ProgressOptions::Show::kNever));
  slow.Advance(1);
  EXPECT_THAT(slow.Line(absl::Seconds(1)), HasSubstr("ETA 2:46:40"));
  EXPECT_THAT(Progress("work", 5).Line(absl::Seconds(1)), HasSubstr("ETA -"));
  Progress unknown("scan", 0, Options(ProgressOptions::Show::kNever));
  unknown.Advance(7);
  EXPECT_EQ(unknown.Line(absl::Seconds(2)), "scan  7  3.5/s");
}

TEST_F(ProgressTest, WaitsForASecondAndThenATenthOfOne) {
  {
    Progress progress("work", 10, Options(ProgressOptions::Show::kAlways));
    now_ += absl::Milliseconds(999);
    progress.Advance();
    EXPECT_EQ(Written(), "");
    now_ += absl::Milliseconds(1);
    progress.Advance();
    const std::string first = Written();
    EXPECT_THAT(first, HasSubstr("\rwork  20%"));
    now_ += absl::Milliseconds(99);
    progress.Advance();
    EXPECT_EQ(Written(), first);
    now_ += absl::Milliseconds(1);
    progress.Advance();
    EXPECT_THAT(Written(), HasSubstr("\rwork  40%"));
  }
  // The line is blanked at the end.
  EXPECT_EQ(Written().back(), '\r');
}

TEST_F(ProgressTest, LargeCountsAreShortened) {
  Progress progress("work", 5'500'000'000,
                    Options(ProgressOptions::Show::kNever));
  progress.Advance(9999);
  EXPECT_THAT(progress.Line(absl::Seconds(1)),
              HasSubstr("] 9999/5.50G  9999/s"));
  progress.Advance(1);
  EXPECT_THAT(progress.Line(absl::Seconds(1)), HasSubstr("] 10.0k/5.50G"));
  progress.Advance(989'999);
  EXPECT_THAT(progress.Line(absl::Seconds(1)), HasSubstr("] 1.00M/5.50G"));
  progress.Advance(98'900'001);
  EXPECT_THAT(progress.Line(absl::Seconds(10)),
              HasSubstr("] 99.9M/5.50G  9.99M/s"));
}

TEST_F(ProgressTest, ClearMakesRoomForOtherText) {
  Progress progress("work", 10, Options(ProgressOptions::Show::kAlways));
  progress.Clear();
  EXPECT_EQ(Written(), "");
  now_ += absl::Seconds(1);
  progress.Advance();
  const size_t columns = Written().size() - 1;  // without the first "\r"
  progress.Clear();
  EXPECT_THAT(Written(),
              ::testing::EndsWith("\r" + std::string(columns, ' ') + "\r"));
  const std::string cleared = Written();
  progress.Clear();
  EXPECT_EQ(Written(), cleared);
}

TEST_F(ProgressTest, SilentWithoutATerminal) {
  {
    Progress progress("work", 10, Options(ProgressOptions::Show::kOnTerminal));
    now_ += absl::Seconds(5);
    progress.Advance();
    EXPECT_EQ(progress.done(), 1);
  }
  EXPECT_EQ(Written(), "");
}

TEST_F(ProgressTest, CountsFromSeveralThreads) {
  ProgressOptions options = Options(ProgressOptions::Show::kAlways);
  options.clock = absl::Now;
  Progress progress("work", 40000, options);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&progress] {
      for (int i = 0; i < 10000; ++i) progress.Advance();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(progress.done(), 40000);
}

}  // namespace
}  // namespace qeff
