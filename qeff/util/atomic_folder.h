// SPDX-License-Identifier: Apache-2.0
//
// Folders that appear complete or not at all: filled under a temporary name
// beside the final one, synced, renamed, and the parent synced.

#ifndef QEFF_UTIL_ATOMIC_FOLDER_H_
#define QEFF_UTIL_ATOMIC_FOLDER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/util/atomic_temporary.h"
#include "qeff/util/output_file.h"
#include "qeff/util/output_folder.h"

namespace qeff {

// Whether `name` is one entry of a folder: not empty, "." or "..", and without
// '/', '\' and control characters. The rule for every file name that comes
// from a file.
bool IsPlainFileName(absl::string_view name);

namespace internal_atomic {

// Opens the file `name` of the open folder `folder` for writing, and makes it:
// with the flag O_EXCL it must not be there, with 0 it keeps what it holds.
// `folder_path` is for messages. For those that implement
// OutputFolder::AddFile, whose errors these are.
absl::StatusOr<std::unique_ptr<OutputFile>> OpenFileIn(
    int folder, const std::string& folder_path, const std::string& name,
    int flag);

}  // namespace internal_atomic

// A flat folder under construction. Not thread-safe; its files are as
// OutputFile says. Destroying it uncommitted removes it.
class AtomicFolder : public OutputFolder {
 public:
  // Begins a folder that will be called `path`, and removes what killed runs
  // have left of it. Errors: kAlreadyExists when something exists at `path`, a
  // dangling link too; kUnavailable when the parent is missing or not writable
  // or another live process does the same (its process id is named);
  // kInvalidArgument when `path` names no entry of a folder.
  static absl::StatusOr<std::unique_ptr<AtomicFolder>> Create(
      const std::string& path);

  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder() override;

  std::string temporary_path() const override { return temporary_.path(); }
  absl::StatusOr<OutputFile*> AddFile(const std::string& name) override;
  // After an error nothing is left.
  absl::Status Commit() override;

 private:
  AtomicFolder() = default;

  absl::Status SyncAndRename();
  void Remove();

  internal_atomic::Temporary temporary_;
  std::vector<std::unique_ptr<OutputFile>> files_;
  bool renamed_ = false;
  bool done_ = true;  // not begun, committed or removed
};

}  // namespace qeff

#endif  // QEFF_UTIL_ATOMIC_FOLDER_H_
