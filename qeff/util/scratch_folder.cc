// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/scratch_folder.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "qeff/util/atomic_folder.h"
#include "qeff/util/remove_tree.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::shared_ptr<ScratchFolder>> ScratchFolder::Create(
    const std::string& path) {
  RemoveTree(AT_FDCWD, path.c_str());
  std::shared_ptr<ScratchFolder> folder(new ScratchFolder(path));
  if (mkdir(path.c_str(), 0777) != 0) return OutputError(path, "create", errno);
  folder->folder_ = FileDescriptor(
      open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder->folder_.valid()) return OutputError(path, "open", errno);
  return folder;
}

ScratchFolder::~ScratchFolder() { RemoveTree(AT_FDCWD, path_.c_str()); }

absl::StatusOr<OutputFile*> ScratchFolder::AddFile(const std::string& name) {
  QEFF_ASSIGN_OR_RETURN(auto file, internal_atomic::OpenFileIn(
                                       folder_.get(), path_, name, O_EXCL));
  files_.push_back(std::move(file));
  return files_.back().get();
}

absl::Status ScratchFolder::Commit() {
  files_.clear();
  return absl::OkStatus();
}

}  // namespace qeff
