// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/atomic_file.h"

#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <utility>

#include "qeff/util/check.h"
#include "qeff/util/remove_tree.h"
#include "qeff/util/status.h"

namespace qeff {

using internal_atomic::CreateTemporary;
using internal_atomic::Kind;
using internal_atomic::Sharing;

AtomicFile::~AtomicFile() {
  if (!done_) RemoveTree(temporary_.parent.get(), temporary_.name.c_str());
}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(
    const std::string& path, Sharing sharing) {
  // First what removes it, and then what is to be removed.
  std::unique_ptr<AtomicFile> file(new AtomicFile());
  internal_atomic::Temporary& temporary = file->temporary_;
  QEFF_ASSIGN_OR_RETURN(temporary, CreateTemporary(path, Kind::kFile, sharing));
  file->done_ = false;
  file->file_ = OutputFile(std::move(temporary.fd), temporary.target_path());
  return file;
}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(
    const std::string& path) {
  return Create(path, Sharing::kExclusive);
}

absl::Status AtomicFile::Commit() {
  QEFF_CHECK(!done_);
  QEFF_RETURN_IF_ERROR(file_.Sync());
  const int parent = temporary_.parent.get();
  if (renameat(parent, temporary_.name.c_str(), parent,
               temporary_.target_name.c_str()) != 0) {
    return OutputError(temporary_.target_path(), "rename", errno);
  }
  done_ = true;
  return SyncFolder(parent, temporary_.parent_path);
}

absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view content) {
  QEFF_ASSIGN_OR_RETURN(const auto file,
                        AtomicFile::Create(path, Sharing::kShared));
  QEFF_RETURN_IF_ERROR(file->Write(0, AsBytes(content)));
  return file->Commit();
}

}  // namespace qeff
