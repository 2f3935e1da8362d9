// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/subprocess.h"

#include <signal.h>

#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class SubprocessTest : public ::testing::Test {
 protected:
  absl::StatusOr<int> Shell(const std::string& script) {
    options_.on_output = [this](absl::string_view text) {
      output_.append(text.data(), text.size());
    };
    return RunSubprocess({"/bin/sh", "-c", script}, options_);
  }

  SubprocessOptions options_;
  std::string output_;
};

TEST_F(SubprocessTest, ReturnsOutputInOrderAndExitCode) {
  const auto code = Shell("echo one; echo two >&2; printf three; exit 7");
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(*code, 7);
  EXPECT_EQ(output_, "one\ntwo\nthree");
}

TEST_F(SubprocessTest, LosesNoneOfMuchOutput) {
  EXPECT_EQ(*Shell("head -c 3000000 /dev/zero"), 0);
  EXPECT_EQ(output_, std::string(3000000, '\0'));
}

TEST_F(SubprocessTest, HasNoInputAndRunsInTheFolder) {
  options_.folder = "/";
  EXPECT_EQ(*Shell("pwd; cat; echo end"), 0);
  EXPECT_EQ(output_, "/\nend\n");
}

TEST_F(SubprocessTest, SeesDefaultSignals) {
  ASSERT_NE(signal(SIGPIPE, SIG_IGN), SIG_ERR);
  const auto code = Shell("kill -PIPE $$; echo survived");
  (void)signal(SIGPIPE, SIG_DFL);
  EXPECT_EQ(code.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(code.status().message(), HasSubstr("ended by signal 13"));
}

TEST_F(SubprocessTest, SaysWhatIsMissing) {
  const auto program = RunSubprocess({"/no/such/program"}, options_);
  EXPECT_EQ(program.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(program.status().message(), HasSubstr("/no/such/program"));
  options_.folder = "/no/such/folder";
  EXPECT_EQ(Shell("true").status().code(), absl::StatusCode::kNotFound);
}

// Whether the process is gone within five seconds.
bool Gone(absl::string_view pid_text) {
  pid_t pid;
  if (!absl::SimpleAtoi(absl::StripSuffix(pid_text, "\n"), &pid)) return false;
  for (int i = 0; i < 500; ++i) {
    if (kill(pid, 0) != 0 && errno == ESRCH) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

TEST_F(SubprocessTest, EndsTheWholeGroupAfterTheTimeout) {
  options_.timeout = absl::Milliseconds(300);
  const auto code = Shell("sleep 1000 & echo $!; wait");
  EXPECT_EQ(code.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(code.status().message(), HasSubstr("ended after 300ms"));
  EXPECT_TRUE(Gone(output_)) << output_;
}

TEST_F(SubprocessTest, EndsWhatDoesNotWantTo) {
  options_.timeout = absl::Milliseconds(300);
  EXPECT_FALSE(Shell("trap '' TERM; echo $$; while :; do sleep 1; done").ok());
  EXPECT_TRUE(Gone(output_)) << output_;
}

TEST_F(SubprocessTest, EndsWhenItIsTold) {
  int asked = 0;
  options_.check = [&asked] {
    return ++asked < 3 ? absl::OkStatus() : absl::CancelledError("enough");
  };
  const auto code = Shell("echo $$; sleep 1000");
  EXPECT_EQ(code.status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(Gone(output_)) << output_;
}

// What a program leaves behind may keep its stdout open.
TEST_F(SubprocessTest, DoesNotWaitForWhatIsLeftRunning) {
  const absl::Time begin = absl::Now();
  EXPECT_EQ(*Shell("sleep 20 & echo $!"), 0);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  pid_t pid;
  ASSERT_TRUE(absl::SimpleAtoi(absl::StripSuffix(output_, "\n"), &pid));
  (void)kill(pid, SIGKILL);
}

}  // namespace
}  // namespace qeff
