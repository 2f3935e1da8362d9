// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/nearest_name.h"

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(NearestNameTest, FindsTypos) {
  EXPECT_EQ(NearestName("quantise", {"inspect", "quantize"}), "quantize");
  EXPECT_EQ(NearestName("xyz", {"inspect", "quantize"}), "");
}

TEST(DidYouMeanTest, AsksOnlyAboutNeighbours) {
  EXPECT_EQ(DidYouMean("quantise", {"inspect", "quantize"}, "--"),
            "; did you mean --quantize?");
  EXPECT_EQ(DidYouMean("xyz", {"inspect", "quantize"}), "");
}

}  // namespace
}  // namespace qeff
