// SPDX-License-Identifier: Apache-2.0
//
// Files that appear complete or not at all: written under a temporary name in
// the same folder, synced, renamed, and the folder synced. For whole folders
// see atomic_folder.h.

#ifndef QEFF_UTIL_ATOMIC_FILE_H_
#define QEFF_UTIL_ATOMIC_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/util/atomic_temporary.h"
#include "qeff/util/output_file.h"

namespace qeff {

// Writes `content` to `path`, replacing what is there. After an error, and
// after a crash at any moment, `path` is what it was before. A symbolic link at
// `path` is replaced, not followed. Errors: kUnavailable with path and errno
// text; kInvalidArgument when `path` names no entry of a folder, or a directory
// or special file. Thread-safe;
// of several writers at once the last one wins.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view content);

// A file that is written in parts and then given its name. Write is
// thread-safe, the rest is not. Destroying it uncommitted removes it.
class AtomicFile {
 public:
  // Begins a file that will be called `path`. Errors as WriteFileAtomically,
  // and kUnavailable when another live process does the same.
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(
      const std::string& path);

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  // Where the file is until Commit: to read back what was written.
  std::string temporary_path() const { return temporary_.path(); }

  // As OutputFile's.
  absl::Status Resize(uint64_t size_bytes) { return file_.Resize(size_bytes); }
  absl::Status Write(uint64_t offset_bytes, absl::Span<const uint8_t> bytes) {
    return file_.Write(offset_bytes, bytes);
  }

  // Waits until what was written is on the device: what is slow or fails in
  // Commit, done before it. Errors: kUnavailable.
  absl::Status Sync() { return file_.Sync(); }

  // Syncs, and replaces what is at the final path. At most once. After an
  // error the path is what it was before.
  absl::Status Commit();

 private:
  friend absl::Status WriteFileAtomically(const std::string&,
                                          absl::string_view);

  AtomicFile() : file_(FileDescriptor(), "") {}
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(
      const std::string& path, internal_atomic::Sharing sharing);

  internal_atomic::Temporary temporary_;  // its fd is in file_
  OutputFile file_;
  bool done_ = true;  // not begun, or committed
};

}  // namespace qeff

#endif  // QEFF_UTIL_ATOMIC_FILE_H_
