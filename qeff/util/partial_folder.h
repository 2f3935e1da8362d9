// SPDX-License-Identifier: Apache-2.0
//
// Folders that take hours to make: the work lies in OUTPUT.partial, which
// outlives the process, and becomes OUTPUT when it is complete. For folders
// that are made at one go see atomic_folder.h.
//
//   OUTPUT.partial/        locked while a process works on it
//     output/              becomes OUTPUT
//     ...                  the caller's own: a journal, intermediate results
//     removed/             what output/ is called while all of this is being
//                          removed: then none of it is gone on with

#ifndef QEFF_UTIL_PARTIAL_FOLDER_H_
#define QEFF_UTIL_PARTIAL_FOLDER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/util/output_file.h"
#include "qeff/util/output_folder.h"

namespace qeff {

// What to do with the unfinished work of an earlier run.
enum class PartialWork {
  kRefuse,   // kAlreadyExists
  kResume,   // keeps it; begins anew where there is none
  kRestart,  // removes it
};

// Not thread-safe; its files are as OutputFile says. Destroying it uncommitted
// leaves everything as it is.
class PartialFolder : public OutputFolder {
 public:
  // Opens or makes OUTPUT.partial for the output `path` and locks it. Errors:
  // kAlreadyExists when something exists at `path`, or unfinished work with
  // kRefuse (the message names --resume and --restart); kUnavailable when the
  // parent is missing or not writable, or a live process works on the same
  // output; kInvalidArgument when `path` names no entry of a folder, or
  // OUTPUT.partial is something else.
  static absl::StatusOr<std::unique_ptr<PartialFolder>> Open(
      const std::string& path, PartialWork work);

  // What Open would refuse because of what is there now, without making or
  // locking anything: for work that comes before. Errors: those of Open.
  static absl::Status Check(const std::string& path, PartialWork work);

  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;
  ~PartialFolder() override = default;

  // OUTPUT.partial, where the caller keeps files of its own.
  std::string path() const { return parent_path_ + "/" + name_; }

  // With kResume: an earlier run had finished and was ended before it could
  // remove OUTPUT.partial, which now is done. Nothing is left to do, and
  // nothing else may be called.
  bool was_complete() const { return was_complete_; }

  std::string temporary_path() const override { return path() + "/output"; }
  // A file that an earlier run has made is opened with what it holds.
  absl::StatusOr<OutputFile*> AddFile(const std::string& name) override;
  // Removes the rest of OUTPUT.partial as well. After an error it is left.
  absl::Status Commit() override;

  // Removes OUTPUT.partial and everything in it; for runs that failed before
  // there was anything to keep. Nothing else may be called afterwards.
  void Discard();

 private:
  PartialFolder(std::string parent_path, std::string target)
      : parent_path_(std::move(parent_path)),
        target_(std::move(target)),
        name_(target_ + ".partial") {}

  absl::Status OpenParent(PartialWork work);
  absl::Status OpenLocked(PartialWork work);
  absl::Status Lock(PartialWork work);
  absl::Status PrepareOutput(PartialWork work);
  absl::Status RemoveWork();

  const std::string parent_path_;
  const std::string target_;  // OUTPUT, inside the parent
  const std::string name_;    // OUTPUT.partial, inside the parent
  FileDescriptor parent_;
  bool exists_ = false;    // OUTPUT, when the parent was opened
  FileDescriptor folder_;  // OUTPUT.partial, locked
  FileDescriptor output_;  // OUTPUT.partial/output
  std::vector<std::unique_ptr<OutputFile>> files_;
  std::vector<std::string> file_names_;
  bool was_complete_ = false;
};

}  // namespace qeff

#endif  // QEFF_UTIL_PARTIAL_FOLDER_H_
