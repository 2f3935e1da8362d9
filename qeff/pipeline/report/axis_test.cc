// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/axis.h"

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff::internal_report {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Texts(const Axis& axis) {
  std::vector<std::string> texts;
  for (const double tick : axis.ticks) texts.push_back(axis.TickText(tick));
  return texts;
}

TEST(AxisTest, LinearTicksAreRound) {
  EXPECT_THAT(Texts(LinearAxis(0, 9.3)),
              ElementsAre("0", "2", "4", "6", "8", "10"));
  EXPECT_THAT(Texts(LinearAxis(-0.2, 0.2)),
              ElementsAre("-0.2", "-0.1", "0", "0.1", "0.2"));
  AxisOptions options;
  options.ticks = 4;
  options.unit = 1e6;
  EXPECT_THAT(Texts(LinearAxis(0, 51.2e6, options)),
              ElementsAre("0", "20", "40", "60"));
  AxisOptions whole;
  whole.min_step = 1;
  EXPECT_THAT(Texts(LinearAxis(0, 2, whole)), ElementsAre("0", "1", "2"));
}

TEST(AxisTest, EndsStayWhereTheyAreWhenAsked) {
  AxisOptions options;
  options.ticks = 4;
  options.round_ends = false;
  const Axis axis = LinearAxis(-0.23, 0.21, options);
  EXPECT_EQ(axis.low, -0.23);
  EXPECT_EQ(axis.high, 0.21);
  EXPECT_THAT(Texts(axis), ElementsAre("-0.2", "0", "0.2"));
}

TEST(AxisTest, LogTicks) {
  EXPECT_THAT(Texts(LogAxis(0.0012, 0.9)),
              ElementsAre("0.001", "0.01", "0.1", "1"));
  EXPECT_THAT(Texts(LogAxis(3, 180)), ElementsAre("1", "10", "100", "1000"));
  EXPECT_THAT(Texts(LogAxis(0.3, 9)),
              ElementsAre("0.2", "0.5", "1", "2", "5", "10"));
  EXPECT_THAT(Texts(LogAxis(1e-12, 1)),
              ElementsAre("1e-12", "1e-9", "1e-6", "0.001", "1"));
}

TEST(AxisTest, ShareIsLinearInTheValueOrItsLogarithm) {
  const Axis linear = LinearAxis(0, 10);
  EXPECT_EQ(linear.Share(0), 0);
  EXPECT_EQ(linear.Share(2.5), 0.25);
  EXPECT_EQ(linear.Share(11), 1);
  const Axis log = LogAxis(1, 100);
  EXPECT_NEAR(log.Share(10), 0.5, 1e-12);
  EXPECT_EQ(log.Share(0), 0);
}

TEST(AxisTest, LongTextsHaveAnExponent) {
  EXPECT_THAT(Texts(LinearAxis(100000, 180000)),
              ElementsAre("1e5", "1.2e5", "1.4e5", "1.6e5", "1.8e5"));
  EXPECT_THAT(Texts(LinearAxis(0, 4e-4)),
              ElementsAre("0", "1e-4", "2e-4", "3e-4", "4e-4"));
  EXPECT_THAT(Texts(LogAxis(1e-4, 1e4)),
              ElementsAre("1e-4", "0.01", "1", "100", "10000"));
}

// Whatever the range: it is held, and 2 to 8 ticks lie in it, ascending, with
// texts of their own.
TEST(AxisTest, EveryRangeHasTicks) {
  std::vector<double> ends = {0};
  for (int exponent = -12; exponent <= 12; exponent += 3) {
    for (const double factor : {1.0, 1.7, 9.99}) {
      ends.push_back(factor * std::pow(10, exponent));
      ends.push_back(-ends.back());
    }
  }
  const auto check = [](const Axis& axis, double low, double high) {
    SCOPED_TRACE(testing::Message() << low << " to " << high);
    EXPECT_LE(axis.low, low);
    EXPECT_GE(axis.high, high);
    EXPECT_LT(axis.low, axis.high);
    EXPECT_GE(axis.ticks.size(), 2u);
    EXPECT_LE(axis.ticks.size(), 8u);
    for (size_t i = 0; i < axis.ticks.size(); ++i) {
      EXPECT_GE(axis.ticks[i], axis.low);
      EXPECT_LE(axis.ticks[i], axis.high);
      if (i == 0) continue;
      EXPECT_GT(axis.ticks[i], axis.ticks[i - 1]);
      EXPECT_NE(axis.TickText(axis.ticks[i]), axis.TickText(axis.ticks[i - 1]));
    }
  };
  for (const double low : ends) {
    for (const double high : ends) {
      if (low > high) continue;
      check(LinearAxis(low, high), low, high);
      check(AxisOf({high, low}), low, high);
      if (low > 0) check(LogAxis(low, high), low, high);
    }
  }
}

}  // namespace
}  // namespace qeff::internal_report
