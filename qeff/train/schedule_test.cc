// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/schedule.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

constexpr ScheduleKind kKinds[] = {ScheduleKind::kConstant,
                                   ScheduleKind::kCosine, ScheduleKind::kLinear,
                                   ScheduleKind::kWsd};

ScheduleOptions Options(ScheduleKind kind) {
  ScheduleOptions options;
  options.kind = kind;
  options.peak = 0.5;
  options.warmup_steps = 10;
  options.total_steps = 110;
  return options;
}

TEST(ScheduleTest, AllWarmUpByEqualParts) {
  for (const ScheduleKind kind : kKinds) {
    const ScheduleOptions options = Options(kind);
    for (int64_t step = 0; step < 10; ++step) {
      EXPECT_DOUBLE_EQ(LearningRate(options, step),
                       0.05 * static_cast<double>(step + 1));
    }
    EXPECT_DOUBLE_EQ(LearningRate(options, 10), 0.5);
  }
}

TEST(ScheduleTest, NeverGrowsAfterTheWarmUpAndStaysAtTheEnd) {
  for (const ScheduleKind kind : kKinds) {
    const ScheduleOptions options = Options(kind);
    for (int64_t step = 10; step < 110; ++step) {
      EXPECT_LE(LearningRate(options, step + 1), LearningRate(options, step));
      EXPECT_GT(LearningRate(options, step), 0) << "no step is for nothing";
    }
    EXPECT_EQ(LearningRate(options, 110), LearningRate(options, 1 << 20));
  }
}

TEST(ScheduleTest, ValuesOnTheWayDown) {
  const auto at = [](ScheduleKind kind, int64_t step) {
    return LearningRate(Options(kind), step);
  };
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kConstant, 109), 0.5);

  // Half the way is in the middle between 0.5 and 0.05.
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kCosine, 60), 0.275);
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kCosine, 35),
                   0.05 + 0.45 * 0.5 * (1 + std::sqrt(0.5)));
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kCosine, 110), 0.05);

  EXPECT_DOUBLE_EQ(at(ScheduleKind::kLinear, 35), 0.375);
  EXPECT_NEAR(at(ScheduleKind::kLinear, 109), 0.005, 1e-15);
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kLinear, 110), 0);

  // A fifth of 110 steps is 22.
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kWsd, 88), 0.5);
  EXPECT_LT(at(ScheduleKind::kWsd, 89), 0.5);
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kWsd, 99), 0.5 * (1 - std::sqrt(0.5)));
  EXPECT_DOUBLE_EQ(at(ScheduleKind::kWsd, 110), 0);
}

TEST(ScheduleTest, FinalShareOfEveryKind) {
  for (const ScheduleKind kind :
       {ScheduleKind::kCosine, ScheduleKind::kLinear, ScheduleKind::kWsd}) {
    ScheduleOptions options = Options(kind);
    options.final_share = 0.25;
    EXPECT_DOUBLE_EQ(LearningRate(options, 110), 0.125);
  }
}

TEST(ScheduleTest, NothingButWarmUp) {
  for (const ScheduleKind kind : kKinds) {
    ScheduleOptions options = Options(kind);
    options.decay_share = 0;
    options.total_steps = 10;
    ASSERT_TRUE(CheckSchedule(options).ok());
    EXPECT_DOUBLE_EQ(LearningRate(options, 9), 0.5);
    EXPECT_TRUE(std::isfinite(LearningRate(options, 10)));
  }
}

TEST(ScheduleTest, NamesGoBothWays) {
  for (const ScheduleKind kind : kKinds) {
    EXPECT_EQ(ParseScheduleKind(ScheduleKindName(kind)).value(), kind);
  }
  EXPECT_THAT(ParseScheduleKind("cosin").status().message(),
              HasSubstr("\"cosin\": expected constant, cosine, linear or wsd"));
}

TEST(ScheduleTest, RefusesWhatCannotBe) {
  const auto message = [](auto change) {
    ScheduleOptions options = Options(ScheduleKind::kWsd);
    EXPECT_TRUE(CheckSchedule(options).ok());
    change(options);
    const absl::Status status = CheckSchedule(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message([](auto& o) { o.peak = 0; }), HasSubstr("learning rate"));
  EXPECT_THAT(message([](auto& o) { o.peak = kNan; }), HasSubstr("nan"));
  EXPECT_THAT(message([](auto& o) { o.final_share = 1.5; }),
              HasSubstr("final share: expected a number from 0 to 1, found "
                        "1.5"));
  EXPECT_THAT(message([](auto& o) { o.decay_share = kNan; }),
              HasSubstr("decay share"));
  EXPECT_THAT(message([](auto& o) { o.total_steps = 0; }),
              HasSubstr("at least 1, found 0"));
  EXPECT_THAT(message([](auto& o) { o.warmup_steps = 111; }),
              HasSubstr("expected 0 to 110 (all steps), found 111"));
  EXPECT_THAT(message([](auto& o) { o.warmup_steps = -1; }),
              HasSubstr("found -1"));
  EXPECT_THAT(message([](auto& o) { o.warmup_steps = 89; }),
              HasSubstr("found 89 and 22"));
}

}  // namespace
}  // namespace qeff
