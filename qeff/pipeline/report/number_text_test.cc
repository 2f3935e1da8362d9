// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/report/number_text.h"

#include "gtest/gtest.h"

namespace qeff::internal_report {
namespace {

TEST(NumberTextTest, SignificantDigitsWithoutTrailingZeros) {
  EXPECT_EQ(NumberText(0), "0");
  EXPECT_EQ(NumberText(4.5), "4.5");
  EXPECT_EQ(NumberText(12.345678), "12.35");
  EXPECT_EQ(NumberText(-0.0123456), "-0.01235");
  EXPECT_EQ(NumberText(0.5, 3), "0.5");
  EXPECT_EQ(NumberText(999.96, 3), "1000");
  EXPECT_EQ(NumberText(1234.6, 3), "1235");  // digits before the point stay
}

TEST(NumberTextTest, IntegersInFullAndExponentsBeyond) {
  EXPECT_EQ(NumberText(1234567, 3), "1234567");
  EXPECT_EQ(NumberText(1.5e9), "1.5e9");
  EXPECT_EQ(NumberText(0.0000123), "1.23e-5");
  EXPECT_EQ(NumberText(0.0001), "0.0001");
}

TEST(NumberTextTest, Units) {
  EXPECT_EQ(BytesText(999), "999\u00A0B");
  EXPECT_EQ(BytesText(1000), "1\u00A0kB");
  EXPECT_EQ(BytesText(12345678), "12.3\u00A0MB");
  EXPECT_EQ(BytesText(13.5e9), "13.5\u00A0GB");
  EXPECT_EQ(BytesText(0), "0\u00A0B");
  EXPECT_EQ(CountText(12), "12");
  EXPECT_EQ(CountText(920502156), "921\u00A0M");
  EXPECT_EQ(SecondsText(0.0213), "21.3\u00A0ms");
  EXPECT_EQ(SecondsText(59), "59\u00A0s");
  EXPECT_EQ(SecondsText(90), "1.5\u00A0min");
  EXPECT_EQ(SecondsText(7200), "2\u00A0h");
}

TEST(NumberTextTest, SharesAndChanges) {
  EXPECT_EQ(PercentText(0.9412), "94.1\u00A0%");
  EXPECT_EQ(ChangeText(10, 10.25), "+2.5\u00A0%");
  EXPECT_EQ(ChangeText(10, 9), "-10\u00A0%");
  EXPECT_EQ(ChangeText(10, 10), "0\u00A0%");
  EXPECT_EQ(ChangeText(0, 1), "");
}

}  // namespace
}  // namespace qeff::internal_report
