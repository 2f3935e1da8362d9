// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/cache_root.h"

#include <unistd.h>

#include <cstdlib>

#include "gtest/gtest.h"

namespace qeff {
namespace {

// The first that is set, as in QEfficient.
TEST(CacheRootTest, LooksAtVariablesInOrder) {
  ASSERT_EQ(setenv("QEFF_HOME", "/q/home/", 1), 0);
  ASSERT_EQ(setenv("XDG_CACHE_HOME", "/x", 1), 0);
  ASSERT_EQ(setenv("HOME", "/h", 1), 0);
  EXPECT_EQ(*CacheRoot("/given"), "/given");
  EXPECT_EQ(*CacheRoot(""), "/q/home/");
  ASSERT_EQ(setenv("QEFF_HOME", "", 1), 0);
  EXPECT_EQ(*CacheRoot(""), "/x/qeff_models");
  ASSERT_EQ(unsetenv("XDG_CACHE_HOME"), 0);
  EXPECT_EQ(*CacheRoot(""), "/h/.cache/qeff_models");
  ASSERT_EQ(unsetenv("HOME"), 0);
  EXPECT_EQ(CacheRoot("").status().code(), absl::StatusCode::kInvalidArgument);
  char here[4096];
  ASSERT_NE(getcwd(here, sizeof(here)), nullptr);
  EXPECT_EQ(*CacheRoot("a/../b"), std::string(here) + "/b");
}

}  // namespace
}  // namespace qeff
