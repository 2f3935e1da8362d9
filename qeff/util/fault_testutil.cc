// SPDX-License-Identifier: Apache-2.0

// Its inline open() would stand before ours.
#undef _FORTIFY_SOURCE

#include "qeff/util/fault_testutil.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <fstream>

namespace qeff {
namespace {

enum class Mode { kCount, kFailFrom, kFail, kKill };

// What a call does: kOther needs no space.
enum class Kind { kSpace, kOther };

// The functions that are replaced have no parameter to carry these.
std::atomic<Mode> mode{Mode::kCount};
std::atomic<int> moment{0};
std::atomic<int> error{0};
std::atomic<int> calls{0};

void Choose(Mode to, int nth, int error_number) {
  calls = 0;
  moment = nth;
  error = error_number;
  mode = to;
}

// Counts a call; whether it is to fail, with errno.
bool Fails(Kind kind) {
  const int call = ++calls;
  switch (mode.load()) {
    case Mode::kCount:
      return false;
    case Mode::kFailFrom:
      if (call < moment || kind == Kind::kOther) return false;
      break;
    case Mode::kFail:
      if (call != moment) return false;
      break;
    case Mode::kKill:
      if (call == moment) kill(getpid(), SIGKILL);
      return false;
  }
  errno = error;
  return true;
}

// The C library's own function.
template <typename Function>
Function* Next(const char* name, Function*) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

mode_t ModeOf(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

bool WriteText(const char* path, const std::string& text) {
  return bool{std::ofstream(path) << text << std::flush};
}

}  // namespace

void CountFileCalls() { Choose(Mode::kCount, 0, 0); }
int FileCalls() { return calls; }
void FailFileCallsFrom(int nth, int error_number) {
  Choose(Mode::kFailFrom, nth, error_number);
}
void FailFileCall(int nth, int error_number) {
  Choose(Mode::kFail, nth, error_number);
}
void KillAtFileCall(int nth) { Choose(Mode::kKill, nth, 0); }

bool MountSmallDisk(const std::string& folder, long long bytes, int files) {
  // A user may mount where a user namespace makes one its root.
  const std::string user = std::to_string(geteuid());
  const std::string group = std::to_string(getegid());
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  if (!WriteText("/proc/self/setgroups", "deny") ||
      !WriteText("/proc/self/uid_map", user + " " + user + " 1") ||
      !WriteText("/proc/self/gid_map", group + " " + group + " 1")) {
    return false;
  }
  std::string options = "size=" + std::to_string(bytes);
  if (files > 0) options += ",nr_inodes=" + std::to_string(files + 1);
  return mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         mount("tmpfs", folder.c_str(), "tmpfs", 0, options.c_str()) == 0;
}

bool MakeReadOnly(const std::string& folder) {
  return mount(nullptr, folder.c_str(), nullptr, MS_REMOUNT | MS_RDONLY,
               nullptr) == 0;
}

}  // namespace qeff

using qeff::Fails;
using qeff::Kind;
using qeff::Next;

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = qeff::ModeOf(flags, arguments);
  va_end(arguments);
  if ((flags & O_CREAT) != 0 && Fails(Kind::kSpace)) return -1;
  static const auto next = Next("open", open);
  return next(path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = qeff::ModeOf(flags, arguments);
  va_end(arguments);
  if ((flags & O_CREAT) != 0 && Fails(Kind::kSpace)) return -1;
  static const auto next = Next("openat", openat);
  return next(folder, path, flags, mode);
}

int mkdir(const char* path, mode_t mode) noexcept {
  static const auto next = Next("mkdir", mkdir);
  return Fails(Kind::kSpace) ? -1 : next(path, mode);
}

int mkdirat(int folder, const char* path, mode_t mode) noexcept {
  static const auto next = Next("mkdirat", mkdirat);
  return Fails(Kind::kSpace) ? -1 : next(folder, path, mode);
}

ssize_t write(int fd, const void* bytes, size_t count) {
  static const auto next = Next("write", write);
  struct stat info;
  const bool to_file = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  return to_file && Fails(Kind::kSpace) ? -1 : next(fd, bytes, count);
}

ssize_t pwrite(int fd, const void* bytes, size_t count, off_t offset) {
  static const auto next = Next("pwrite", pwrite);
  return Fails(Kind::kSpace) ? -1 : next(fd, bytes, count, offset);
}

int ftruncate(int fd, off_t size) noexcept {
  static const auto next = Next("ftruncate", ftruncate);
  return Fails(Kind::kOther) ? -1 : next(fd, size);
}

int fsync(int) { return Fails(Kind::kSpace) ? -1 : 0; }

int rename(const char* from, const char* to) noexcept {
  static const auto next = Next("rename", rename);
  return Fails(Kind::kOther) ? -1 : next(from, to);
}

int renameat(int from_folder, const char* from, int to_folder,
             const char* to) noexcept {
  static const auto next = Next("renameat", renameat);
  return Fails(Kind::kOther) ? -1 : next(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) noexcept {
  static const auto next = Next("renameat2", renameat2);
  return Fails(Kind::kOther) ? -1
                             : next(from_folder, from, to_folder, to, flags);
}

int unlink(const char* path) noexcept {
  static const auto next = Next("unlink", unlink);
  return Fails(Kind::kOther) ? -1 : next(path);
}

int unlinkat(int folder, const char* path, int flags) noexcept {
  static const auto next = Next("unlinkat", unlinkat);
  return Fails(Kind::kOther) ? -1 : next(folder, path, flags);
}

int rmdir(const char* path) noexcept {
  static const auto next = Next("rmdir", rmdir);
  return Fails(Kind::kOther) ? -1 : next(path);
}

}  // extern "C"
