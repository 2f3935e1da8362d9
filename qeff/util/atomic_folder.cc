// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/atomic_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"
#include "qeff/util/remove_tree.h"
#include "qeff/util/status.h"

namespace qeff {

using internal_atomic::CreateTemporary;
using internal_atomic::Kind;
using internal_atomic::OpenFileIn;
using internal_atomic::RenameToNew;
using internal_atomic::Sharing;

bool IsPlainFileName(absl::string_view name) {
  if (name.empty() || name == "." || name == "..") return false;
  for (const char c : name) {
    if (c == '/' || c == '\\' ||
        absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<std::unique_ptr<OutputFile>> internal_atomic::OpenFileIn(
    int folder, const std::string& folder_path, const std::string& name,
    int flag) {
  if (!IsPlainFileName(name)) {
    return InvalidInputError("'", absl::CHexEscape(name),
                             "': expected a plain file name");
  }
  std::string path = absl::StrCat(folder_path, "/", name);
  FileDescriptor fd(openat(folder, name.c_str(),
                           O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | flag,
                           0666));
  if (!fd.valid()) return OutputError(path, "create", errno);
  return std::make_unique<OutputFile>(std::move(fd), std::move(path));
}

absl::StatusOr<std::unique_ptr<AtomicFolder>> AtomicFolder::Create(
    const std::string& path) {
  // First what removes it, and then what is to be removed.
  std::unique_ptr<AtomicFolder> folder(new AtomicFolder());
  QEFF_ASSIGN_OR_RETURN(
      folder->temporary_,
      CreateTemporary(path, Kind::kFolder, Sharing::kExclusive));
  folder->done_ = false;
  return folder;
}

AtomicFolder::~AtomicFolder() {
  if (!done_) Remove();
}

void AtomicFolder::Remove() {
  files_.clear();
  const std::string& name = renamed_ ? temporary_.target_name : temporary_.name;
  RemoveTree(temporary_.parent.get(), name.c_str());
  done_ = true;
}

absl::StatusOr<OutputFile*> AtomicFolder::AddFile(const std::string& name) {
  QEFF_CHECK(!done_);
  // The path for messages is as the caller knows it.
  QEFF_ASSIGN_OR_RETURN(
      auto file,
      OpenFileIn(temporary_.fd.get(), temporary_.target_path(), name, O_EXCL));
  files_.push_back(std::move(file));
  return files_.back().get();
}

absl::Status AtomicFolder::SyncAndRename() {
  for (const auto& file : files_) QEFF_RETURN_IF_ERROR(file->Sync());
  QEFF_RETURN_IF_ERROR(SyncFolder(temporary_.fd.get(), temporary_path()));
  const int parent = temporary_.parent.get();
  QEFF_RETURN_IF_ERROR(RenameToNew(parent, temporary_.name, parent,
                                   temporary_.target_name,
                                   temporary_.target_path()));
  renamed_ = true;
  return SyncFolder(parent, temporary_.parent_path);
}

absl::Status AtomicFolder::Commit() {
  QEFF_CHECK(!done_);
  const absl::Status status = SyncAndRename();
  if (!status.ok()) {
    Remove();
    return status;
  }
  files_.clear();
  done_ = true;
  return absl::OkStatus();
}

}  // namespace qeff
