// SPDX-License-Identifier: Apache-2.0

#include "tools/interrupt.h"

#include <csignal>
#include <cstdlib>

#include "gtest/gtest.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

TEST(InterruptScopeTest, NotesTheFirstSignal) {
  for (const auto& [signal_number, code] :
       {std::pair<int, int>{SIGINT, 130}, std::pair<int, int>{SIGTERM, 143}}) {
    const InterruptScope interrupt;
    EXPECT_TRUE(interrupt.Check().ok());
    std::raise(signal_number);
    const absl::Status status = interrupt.Check();
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(InterruptExitCode(status), code);
    EXPECT_EQ(InterruptExitCode(Annotate(status, "context")), code);
  }
  const InterruptScope next;
  EXPECT_TRUE(next.Check().ok());
  EXPECT_FALSE(InterruptExitCode(absl::CancelledError("other")).has_value());
  EXPECT_FALSE(InterruptExitCode(absl::OkStatus()).has_value());
}

TEST(InterruptScopeDeathTest, SecondSignalEndsTheProcess) {
  EXPECT_EXIT(
      {
        const InterruptScope interrupt;
        std::raise(SIGTERM);
        std::raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

TEST(InterruptScopeDeathTest, SignalsAreAsBeforeAfterTheScope) {
  EXPECT_EXIT(
      {
        { const InterruptScope interrupt; }
        std::raise(SIGINT);
      },
      ::testing::KilledBySignal(SIGINT), "");
}

TEST(InterruptScopeTest, IgnoredSignalsStayIgnored) {
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  struct sigaction old;
  ASSERT_EQ(sigaction(SIGINT, &ignore, &old), 0);
  {
    const InterruptScope interrupt;
    std::raise(SIGINT);
    EXPECT_TRUE(interrupt.Check().ok());
  }
  ASSERT_EQ(sigaction(SIGINT, &old, nullptr), 0);
}

}  // namespace
}  // namespace qeff
