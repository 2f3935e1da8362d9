// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/partial_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "qeff/util/atomic_folder.h"
#include "qeff/util/atomic_temporary.h"
#include "qeff/util/check.h"
#include "qeff/util/remove_tree.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kOutput[] = "output";
constexpr char kRemoved[] = "removed";
constexpr int kOpenFolder = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

bool Exists(int folder, const std::string& name) {
  struct stat info;
  return fstatat(folder, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

// Whether the open `fd` is what `name` means.
bool IsSame(int fd, int folder, const std::string& name) {
  struct stat a, b;
  return fstat(fd, &a) == 0 &&
         fstatat(folder, name.c_str(), &b, AT_SYMLINK_NOFOLLOW) == 0 &&
         a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PartialFolder>> PartialFolder::Open(
    const std::string& path, PartialWork work) {
  QEFF_ASSIGN_OR_RETURN(const auto parts, internal_atomic::SplitPath(path));
  std::unique_ptr<PartialFolder> result(
      new PartialFolder(parts.first, parts.second));
  QEFF_RETURN_IF_ERROR(result->OpenLocked(work));
  return result;
}

absl::Status PartialFolder::Check(const std::string& path, PartialWork work) {
  QEFF_ASSIGN_OR_RETURN(const auto parts, internal_atomic::SplitPath(path));
  return PartialFolder(parts.first, parts.second).OpenParent(work);
}

// And checks what is there.
absl::Status PartialFolder::OpenParent(PartialWork work) {
  const std::string target_path = absl::StrCat(parent_path_, "/", target_);
  parent_ = FileDescriptor(
      open(parent_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent_.valid()) {
    return OutputError(target_path,
                       absl::StrCat("open of folder ", parent_path_), errno);
  }
  exists_ = Exists(parent_.get(), target_);
  const bool partial = Exists(parent_.get(), name_);
  if (exists_ && !(partial && work == PartialWork::kResume)) {
    return absl::AlreadyExistsError(
        absl::StrCat(target_path, ": exists already; give a new path"));
  }
  if (partial && work == PartialWork::kRefuse) {
    return absl::AlreadyExistsError(absl::StrCat(
        path(),
        ": holds the unfinished work of an earlier run; --resume goes "
        "on with it, --restart begins anew"));
  }
  return absl::OkStatus();
}

absl::Status PartialFolder::OpenLocked(PartialWork work) {
  QEFF_RETURN_IF_ERROR(OpenParent(work));
  QEFF_RETURN_IF_ERROR(Lock(work));
  if (!exists_) return PrepareOutput(work);
  if (Exists(folder_.get(), kOutput)) {
    return absl::AlreadyExistsError(
        absl::StrCat(parent_path_, "/", target_,
                     ": exists already, beside unfinished work in ", path(),
                     "; move one of them away"));
  }
  Discard();
  was_complete_ = true;
  return absl::OkStatus();
}

// Another process may remove the folder between opening and locking it: then
// it is made once more.
absl::Status PartialFolder::Lock(PartialWork work) {
  constexpr int kAttempts = 10;
  for (int i = 0; i < kAttempts; ++i) {
    if (mkdirat(parent_.get(), name_.c_str(), 0777) != 0) {
      if (errno != EEXIST) return OutputError(path(), "create", errno);
      if (i == 0 && work == PartialWork::kRefuse) {
        return absl::UnavailableError(
            absl::StrCat(path(), ": another process has just made it"));
      }
    }
    folder_ = FileDescriptor(openat(parent_.get(), name_.c_str(), kOpenFolder));
    if (!folder_.valid()) {
      if (errno == ENOENT) continue;
      if (errno == ENOTDIR || errno == ELOOP) {
        return InvalidInputError(path(), ": expected a folder");
      }
      return OutputError(path(), "open", errno);
    }
    // A file system without locks goes unprotected.
    if (flock(folder_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      return absl::UnavailableError(
          absl::StrCat(path(), ": another process works on it at this moment"));
    }
    if (IsSame(folder_.get(), parent_.get(), name_)) return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat(path(), ": other processes keep removing it"));
}

absl::Status PartialFolder::PrepareOutput(PartialWork work) {
  if (work == PartialWork::kRestart || Exists(folder_.get(), kRemoved)) {
    QEFF_RETURN_IF_ERROR(RemoveWork());
  }
  if (mkdirat(folder_.get(), kOutput, 0777) != 0 && errno != EEXIST) {
    return OutputError(temporary_path(), "create", errno);
  }
  output_ = FileDescriptor(openat(folder_.get(), kOutput, kOpenFolder));
  if (!output_.valid()) return OutputError(temporary_path(), "open", errno);
  QEFF_RETURN_IF_ERROR(SyncFolder(folder_.get(), path()));
  return SyncFolder(parent_.get(), parent_path_);
}

// Whoever is killed in here leaves `removed`, which goes last: the next run
// does the rest of this before it begins, instead of going on with some of the
// files.
absl::Status PartialFolder::RemoveWork() {
  const int folder = folder_.get();
  absl::Status status;
  if (renameat(folder, kOutput, folder, kRemoved) != 0 && errno != ENOENT) {
    status = OutputError(temporary_path(), "rename", errno);
  }
  status.Update(SyncFolder(folder, path()));
  RemoveEntries(folder, {kRemoved});
  status.Update(SyncFolder(folder, path()));
  RemoveTree(folder, kRemoved);
  return status;
}

absl::StatusOr<OutputFile*> PartialFolder::AddFile(const std::string& name) {
  QEFF_CHECK(output_.valid());
  if (std::find(file_names_.begin(), file_names_.end(), name) !=
      file_names_.end()) {
    return OutputError(absl::StrCat(temporary_path(), "/", name), "create",
                       EEXIST);
  }
  QEFF_ASSIGN_OR_RETURN(
      auto file, internal_atomic::OpenFileIn(output_.get(), temporary_path(),
                                             name, /*flag=*/0));
  file_names_.push_back(name);
  files_.push_back(std::move(file));
  return files_.back().get();
}

absl::Status PartialFolder::Commit() {
  QEFF_CHECK(output_.valid());
  // What an earlier run has made and this one did not want.
  RemoveEntries(output_.get(), file_names_);
  for (const auto& file : files_) QEFF_RETURN_IF_ERROR(file->Sync());
  QEFF_RETURN_IF_ERROR(SyncFolder(output_.get(), temporary_path()));
  QEFF_RETURN_IF_ERROR(internal_atomic::RenameToNew(
      folder_.get(), kOutput, parent_.get(), target_,
      absl::StrCat(parent_path_, "/", target_)));
  QEFF_RETURN_IF_ERROR(SyncFolder(parent_.get(), parent_path_));
  Discard();
  return absl::OkStatus();
}

void PartialFolder::Discard() {
  files_.clear();
  output_.Close();
  (void)RemoveWork();
  (void)unlinkat(parent_.get(), name_.c_str(), AT_REMOVEDIR);
  folder_.Close();
}

}  // namespace qeff
