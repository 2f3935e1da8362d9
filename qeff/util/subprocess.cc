// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "qeff/util/check.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int kPollMilliseconds = 100;
constexpr absl::Duration kGrace = absl::Seconds(5);

// Attributes and actions of posix_spawn, freed at the end.
class SpawnSetup {
 public:
  SpawnSetup(int output, const std::string& folder) {
    QEFF_CHECK(posix_spawnattr_init(&attributes_) == 0);
    QEFF_CHECK(posix_spawn_file_actions_init(&actions_) == 0);
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    // What this process ignores would stay ignored.
    for (const int number : {SIGPIPE, SIGINT, SIGTERM}) {
      sigaddset(&defaults, number);
    }
    Check(posix_spawnattr_setsigmask(&attributes_, &none));
    Check(posix_spawnattr_setsigdefault(&attributes_, &defaults));
    Check(posix_spawnattr_setpgroup(&attributes_, 0));
    Check(posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK |
                                                     POSIX_SPAWN_SETSIGDEF |
                                                     POSIX_SPAWN_SETPGROUP));
    Check(posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null",
                                           O_RDONLY, 0));
    Check(posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO));
    Check(posix_spawn_file_actions_adddup2(&actions_, output, STDERR_FILENO));
    if (!folder.empty()) {
      Check(posix_spawn_file_actions_addchdir_np(&actions_, folder.c_str()));
    }
  }
  ~SpawnSetup() {
    (void)posix_spawnattr_destroy(&attributes_);
    (void)posix_spawn_file_actions_destroy(&actions_);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  // The process, or an errno value in *error.
  pid_t Spawn(const std::vector<std::string>& command, int* error) const {
    std::vector<char*> argv;
    for (const std::string& word : command) {
      argv.push_back(const_cast<char*>(word.c_str()));
    }
    argv.push_back(nullptr);
    pid_t pid = 0;
    *error = error_ != 0 ? error_
                         : posix_spawnp(&pid, argv[0], &actions_, &attributes_,
                                        argv.data(), environ);
    return pid;
  }

 private:
  void Check(int error) {
    if (error_ == 0) error_ = error;
  }

  posix_spawnattr_t attributes_;
  posix_spawn_file_actions_t actions_;
  int error_ = 0;
};

// A running program. Its group is gone when this is.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  ~Child() {
    if (!reaped_) End();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Whether it has exited, which leaves it to be reaped.
  bool Exited() const {
    siginfo_t info = {};
    return waitid(P_PID, static_cast<id_t>(pid_), &info,
                  WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == pid_;
  }

  int Reap() {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    reaped_ = true;
    return status;
  }

  void End() {
    (void)kill(-pid_, SIGTERM);
    const absl::Time deadline = absl::Now() + kGrace;
    while (!Exited() && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    // Not reaped yet, so that the number is still this group's.
    (void)kill(-pid_, SIGKILL);
    (void)Reap();
  }

 private:
  const pid_t pid_;
  bool reaped_ = false;
};

// Passes on what can be read now. False at the end.
bool Forward(int fd, const SubprocessOptions& options) {
  std::array<char, 1 << 16> buffer;
  const ssize_t count = read(fd, buffer.data(), buffer.size());
  if (count < 0) return errno == EINTR || errno == EAGAIN;
  if (count == 0) return false;
  if (options.on_output) {
    options.on_output(
        absl::string_view(buffer.data(), static_cast<size_t>(count)));
  }
  return true;
}

// Until the program has exited and what it wrote has been read.
absl::Status Follow(const Child& child, int fd,
                    const SubprocessOptions& options) {
  const absl::Time deadline = absl::Now() + options.timeout;
  for (bool open = true;;) {
    // Before looking for output: what it wrote then is all there is.
    const bool exited = child.Exited();
    pollfd waiting = {fd, POLLIN, 0};
    if (!open) waiting.fd = -1;
    const int ready = poll(&waiting, 1, exited ? 0 : kPollMilliseconds);
    if (ready > 0) open = Forward(fd, options);
    if (exited && ready <= 0) return absl::OkStatus();
    if (options.check) QEFF_RETURN_IF_ERROR(options.check());
    if (absl::Now() >= deadline) {
      return absl::ResourceExhaustedError(
          absl::StrCat("ended after ", absl::FormatDuration(options.timeout)));
    }
  }
}

}  // namespace

absl::StatusOr<int> RunSubprocess(const std::vector<std::string>& command,
                                  const SubprocessOptions& options) {
  QEFF_CHECK(!command.empty());
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return IoError(command[0], "pipe", errno);
  const FileDescriptor output(ends[0]);
  FileDescriptor input(ends[1]);
  int error = 0;
  const pid_t pid =
      SpawnSetup(input.get(), options.folder).Spawn(command, &error);
  if (error != 0) return IoError(command[0], "start", error);
  Child child(pid);
  input.Close();
  (void)fcntl(output.get(), F_SETFL, O_NONBLOCK);
  QEFF_RETURN_IF_ERROR(Follow(child, output.get(), options), command[0]);
  const int status = child.Reap();
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return absl::UnavailableError(absl::StrCat(command[0], ": ended by signal ",
                                             WTERMSIG(status), " (",
                                             strsignal(WTERMSIG(status)), ")"));
}

}  // namespace qeff
