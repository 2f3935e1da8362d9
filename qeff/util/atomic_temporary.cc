// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/atomic_temporary.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "qeff/util/remove_tree.h"
#include "qeff/util/status.h"

namespace qeff {
namespace internal_atomic {
namespace {

constexpr size_t kRandomHexDigits = 16;

FileDescriptor OpenFolder(int parent, const std::string& name) {
  return FileDescriptor(openat(
      parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

// The process id in `name` when it is a temporary of `target`, else 0.
int64_t TemporaryPid(absl::string_view name, absl::string_view target) {
  int64_t pid;
  if (!absl::ConsumePrefix(&name, ".") || !absl::ConsumePrefix(&name, target) ||
      !absl::ConsumePrefix(&name, ".tmp.")) {
    return 0;
  }
  const size_t dot = name.find('.');
  if (dot == absl::string_view::npos ||
      !absl::SimpleAtoi(name.substr(0, dot), &pid) || pid <= 0) {
    return 0;
  }
  name.remove_prefix(dot + 1);
  if (name.size() != kRandomHexDigits) return 0;
  for (char c : name) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return 0;
  }
  return pid;
}

// Whether no process holds `name`, a temporary in `parent`. Where the file
// system has no locks, nothing is known to be abandoned.
bool IsAbandoned(int parent, const char* name) {
  const FileDescriptor fd(
      openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  return fd.valid() && flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
}

// Whether a process holds `name`.
bool IsHeld(int parent, const char* name) {
  const FileDescriptor fd(
      openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  return fd.valid() && flock(fd.get(), LOCK_EX | LOCK_NB) != 0 &&
         errno == EWOULDBLOCK;
}

// Removes abandoned temporaries of `target`; returns the process id of a live
// one, or 0.
int64_t SweepTemporaries(int parent, const std::string& target) {
  int64_t holder = 0;
  ForEachEntry(parent, [&](const char* name) {
    const int64_t pid = TemporaryPid(name, target);
    if (pid == 0) return;
    if (IsAbandoned(parent, name)) {
      RemoveTree(parent, name);
    } else if (IsHeld(parent, name)) {
      holder = pid;
    }
  });
  return holder;
}

// Locks the folder `parent` itself: between making a temporary and locking it
// nobody else may look. Held for milliseconds; a lock that somebody keeps is
// an error, and a file system without locks goes unprotected.
absl::Status LockParent(int parent, absl::string_view path) {
  constexpr int kAttempts = 1000;
  constexpr int kPauseMicroseconds = 10'000;
  for (int i = 0; i < kAttempts; ++i) {
    if (flock(parent, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
      return absl::OkStatus();
    }
    usleep(kPauseMicroseconds);
  }
  return absl::UnavailableError(absl::StrCat(
      path, ": the folder has been locked by another process for 10 s"));
}

// Makes the file or folder `name`; an invalid descriptor with errno otherwise.
FileDescriptor Make(int parent, const std::string& name, Kind kind) {
  if (kind == Kind::kFile) {
    return FileDescriptor(
        openat(parent, name.c_str(),
               O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  }
  if (mkdirat(parent, name.c_str(), 0777) != 0) return FileDescriptor();
  FileDescriptor folder = OpenFolder(parent, name);
  if (!folder.valid()) {
    const int error = errno;
    (void)unlinkat(parent, name.c_str(), AT_REMOVEDIR);
    errno = error;
  }
  return folder;
}

std::string RandomName(absl::string_view target) {
  uint64_t random = 0;
  // Without randomness the process id still tells live processes apart.
  (void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
  return absl::StrCat(".", target, ".tmp.", getpid(), ".",
                      absl::Hex(random, absl::kZeroPad16));
}

}  // namespace

absl::StatusOr<std::pair<std::string, std::string>> SplitPath(
    const std::string& path) {
  absl::string_view rest = path;
  while (rest.size() > 1 && rest.back() == '/') rest.remove_suffix(1);
  const size_t slash = rest.rfind('/');
  const absl::string_view name =
      slash == absl::string_view::npos ? rest : rest.substr(slash + 1);
  if (name.empty() || name == "." || name == ".." ||
      name.find('\0') != absl::string_view::npos) {
    return InvalidInputError("'", path, "': expected a path that ends in a ",
                             "name, to write to");
  }
  std::string parent = ".";
  if (slash == 0) parent = "/";
  if (slash != absl::string_view::npos && slash > 0) {
    parent = std::string(rest.substr(0, slash));
  }
  return std::make_pair(std::move(parent), std::string(name));
}

absl::Status RenameToNew(int from_folder, const std::string& from,
                         int to_folder, const std::string& to,
                         absl::string_view path) {
  constexpr char kOperation[] = "rename to final name";
  const char* old_name = from.c_str();
  const char* new_name = to.c_str();
  if (renameat2(from_folder, old_name, to_folder, new_name, RENAME_NOREPLACE) ==
      0) {
    return absl::OkStatus();
  }
  if (errno != EINVAL && errno != ENOSYS) {
    return OutputError(path, kOperation, errno);
  }
  // Not every file system can; plain rename replaces an empty folder only.
  struct stat info;
  if (fstatat(to_folder, new_name, &info, AT_SYMLINK_NOFOLLOW) == 0) {
    return OutputError(path, kOperation, EEXIST);
  }
  if (renameat(from_folder, old_name, to_folder, new_name) != 0) {
    return OutputError(path, kOperation, errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<Temporary> CreateTemporary(const std::string& path, Kind kind,
                                          Sharing sharing) {
  QEFF_ASSIGN_OR_RETURN(const auto parts, SplitPath(path));
  Temporary temporary;
  temporary.parent_path = parts.first;
  temporary.target_name = parts.second;
  temporary.parent = FileDescriptor(
      open(parts.first.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const int parent = temporary.parent.get();
  if (parent < 0) {
    return OutputError(path, absl::StrCat("open of folder ", parts.first),
                       errno);
  }
  QEFF_RETURN_IF_ERROR(LockParent(parent, parts.first));
  absl::Cleanup unlock = [parent] { (void)flock(parent, LOCK_UN); };

  struct stat info;
  if (fstatat(parent, parts.second.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
    if (kind == Kind::kFolder) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": exists already; give a new path"));
    }
    if (!S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode)) {
      return InvalidInputError(
          path, ": expected a file to replace or a new path, found ",
          S_ISDIR(info.st_mode) ? "a directory" : "a special file");
    }
  }
  const int64_t holder = SweepTemporaries(parent, parts.second);
  if (holder != 0 && sharing == Sharing::kExclusive) {
    return absl::UnavailableError(absl::StrCat(
        path, ": process ", holder, " is writing to it at this moment"));
  }
  constexpr int kAttempts = 10;
  for (int i = 0; i < kAttempts && !temporary.fd.valid(); ++i) {
    temporary.name = RandomName(parts.second);
    temporary.fd = Make(parent, temporary.name, kind);
    if (!temporary.fd.valid() && errno != EEXIST) break;
  }
  if (!temporary.fd.valid()) {
    return OutputError(
        path, absl::StrCat("create of ", temporary.name, " beside it"), errno);
  }
  // Fails only where the file system has no locks.
  (void)flock(temporary.fd.get(), LOCK_EX | LOCK_NB);
  return temporary;
}

}  // namespace internal_atomic
}  // namespace qeff
