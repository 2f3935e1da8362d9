// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/param_hash.h"

#include <limits>

#include "gtest/gtest.h"

namespace qeff {
namespace {

// The check value of QEfficient's hash.
TEST(HashParamsTest, IsQEfficients) {
  EXPECT_EQ(*HashParams(Json{{"key", "value"}}), "e43abcf337524483");
}

// hashlib.sha256(json.dumps(v, sort_keys=True, separators=(",", ":")).encode())
// by Python 3.11.
TEST(HashParamsTest, IsPythons) {
  const Json value = {{"b", {1, 2.5, nullptr, true}},
                      {"a", {{"z", "\u00e9\n\x7f"}, {"y", Json::array()}}},
                      {"eps", 1e-05}};
  EXPECT_EQ(*HashParams(value), "dee96e0dfb12486b");
}

TEST(HashParamsTest, DependsOnContentNotOnOrder) {
  const Json one = {{"a", 1}, {"b", 2}}, other = {{"b", 2}, {"a", 1}};
  EXPECT_EQ(*HashParams(one), *HashParams(other));
  EXPECT_NE(*HashParams(one), *HashParams(Json{{"a", 2}, {"b", 1}}));
}

TEST(HashParamsTest, RefusesWhatIsNotFinite) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(HashParams(Json{{"a", {1, nan}}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(HashParams(Json(nan)).ok());
}

}  // namespace
}  // namespace qeff
