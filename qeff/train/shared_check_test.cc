// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/shared_check.h"

#include <vector>

#include "gtest/gtest.h"
#include "qeff/train/thread_reducer_testutil.h"

namespace qeff {
namespace {

absl::Status Enough() { return absl::AbortedError("enough"); }

TEST(SharedCheckTest, OfOneProcessIsItsOwn) {
  int64_t asked = 0;
  SharedCheck check([&] { return ++asked < 3 ? absl::OkStatus() : Enough(); },
                    nullptr);
  EXPECT_TRUE(check.Check().ok());
  EXPECT_TRUE(check.Meet().ok());
  EXPECT_EQ(check.Meet(absl::DataLossError("work")).message(), "work");
  EXPECT_TRUE(check.Check().ok());
  EXPECT_FALSE(check.stopped());
  EXPECT_EQ(check.Check(), Enough());
  EXPECT_TRUE(check.stopped());
  // Of two reasons to end it is the one.
  EXPECT_EQ(check.Meet(absl::DataLossError("work")), Enough());
  EXPECT_EQ(check.Check(), Enough());
  EXPECT_EQ(asked, 3);
  EXPECT_TRUE(SharedCheck(nullptr, nullptr).Check().ok());
}

// Others ask until they are told, however long that takes.
TEST(SharedCheckTest, StopsAll) {
  for (const int from : {0, 1, 2}) {
    std::vector<absl::Status> met(3);
    RunRanks(3, [&](GradientReducer* reducer) {
      int64_t asked = 0;
      SharedCheck check(
          [&] {
            return reducer->rank() != from || ++asked < 1000 ? absl::OkStatus()
                                                             : Enough();
          },
          reducer);
      EXPECT_TRUE(check.Meet().ok());
      absl::Status status;
      while (status.ok()) status = check.Check();
      EXPECT_EQ(status.code(), reducer->rank() == from
                                   ? absl::StatusCode::kAborted
                                   : absl::StatusCode::kCancelled);
      met[static_cast<size_t>(reducer->rank())] = check.Meet(status);
    });
    for (const absl::Status& status : met) {
      EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
      EXPECT_EQ(status.message(), from == 0   ? "enough"
                                  : from == 1 ? "process 1: enough"
                                              : "process 2: enough");
    }
  }
}

// Who is done does not ask any more, and learns of it where all meet.
TEST(SharedCheckTest, AlsoThoseWhoAreDone) {
  RunRanks(2, [](GradientReducer* reducer) {
    const bool stops = reducer->rank() == 1;
    SharedCheck check([&] { return stops ? Enough() : absl::OkStatus(); },
                      reducer);
    EXPECT_EQ(stops && check.Check().ok(), false);
    EXPECT_EQ(check.Meet().message(), "process 1: enough");
    EXPECT_TRUE(check.stopped());
  });
}

TEST(SharedCheckTest, ErrorsOfTheWorkAreNoStop) {
  RunRanks(2, [](GradientReducer* reducer) {
    SharedCheck check(nullptr, reducer);
    EXPECT_EQ(check
                  .Meet(reducer->rank() == 1 ? absl::DataLossError("work")
                                             : absl::OkStatus())
                  .message(),
              "process 1: work");
    EXPECT_FALSE(check.stopped());
  });
}

}  // namespace
}  // namespace qeff
