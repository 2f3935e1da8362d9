// SPDX-License-Identifier: Apache-2.0

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/parallel/thread_pool.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(DoctorTest, SaysWhatAMachineCanBe) {
  const absl::Time start = absl::Now();
  const CommandOutcome outcome = RunQeff({"doctor", "--threads=1"});
  EXPECT_LT(absl::Now() - start, absl::Seconds(30));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const Json& json = outcome.json;
  EXPECT_GE(json["processors"].get<int>(), 1);
  EXPECT_EQ(json["threads"], 1);
  EXPECT_FALSE(json["target"].get<std::string>().empty());
  EXPECT_LE(json["available_memory_bytes"].get<uint64_t>(),
            json["memory_bytes"].get<uint64_t>());
  // Any machine is between a slow core under emulation and the fastest one.
  const Json& measured = json["measured"];
  ASSERT_EQ(measured.size(), 4u);
  for (const auto& [name, rate] : measured.items()) {
    EXPECT_GT(rate.get<double>(), 1e7) << name;
    EXPECT_LT(rate.get<double>(), 1e13) << name;
  }
  ASSERT_EQ(json["libraries"].size(), 5u);
  for (const auto& [name, version] : json["libraries"].items()) {
    EXPECT_THAT(version.get<std::string>(),
                MatchesRegex("[0-9]+(\\.[0-9]+)*|not a release"))
        << name;
  }
  EXPECT_THAT(outcome.out, HasSubstr("kernels     " +
                                     json["target"].get<std::string>() + "\n"));
}

TEST(DoctorTest, WarnsOfTooManyThreadsAndOfNoCache) {
  for (const char* name : {"QEFF_HOME", "XDG_CACHE_HOME", "HOME"}) {
    unsetenv(name);
  }
  const std::string too_many = absl::StrCat(NumAvailableProcessors() + 1);
  const CommandOutcome outcome = RunQeff({"doctor", "--threads=" + too_many});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(outcome.json["cache"].is_null());
  EXPECT_THAT(outcome.out, HasSubstr("warning:    no cache: expected one of"));
  EXPECT_THAT(outcome.out,
              HasSubstr("warning:    " + too_many + " threads on"));
}

TEST(DoctorTest, NamesTheCache) {
  setenv("QEFF_HOME", "/nonexistent/q", 1);
  const CommandOutcome outcome = RunQeff({"doctor", "--threads=1"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.json["cache"]["folder"], "/nonexistent/q");
  EXPECT_EQ(outcome.json["cache"]["exists"], false);
  EXPECT_GT(outcome.json["cache"]["free_bytes"].get<uint64_t>(), 0u);
}

}  // namespace
}  // namespace qeff
