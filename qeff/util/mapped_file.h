// SPDX-License-Identifier: Apache-2.0
//
// Read-only views of files.

#ifndef QEFF_UTIL_MAPPED_FILE_H_
#define QEFF_UTIL_MAPPED_FILE_H_

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {

// A regular file mapped into memory for reading. Pages are read on first use.
// Thread-safe. A file that shrinks while it is mapped raises SIGBUS on access:
// commands install InstallSigbusGuard (sigbus_guard.h).
class MappedFile {
 public:
  // Errors: kNotFound when `path` does not exist; kInvalidArgument when it is
  // not a regular file; kUnavailable when it cannot be opened or mapped.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(
      const std::string& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // The whole file; empty for an empty file. Page-aligned.
  absl::Span<const uint8_t> bytes() const {
    return absl::Span<const uint8_t>(data_, size_bytes_);
  }

  // Tells the system that `range`, a part of bytes(), will be read soon.
  void WillNeed(absl::Span<const uint8_t> range) const;

  // Drops the pages that lie wholly inside `range` from this process; they are
  // read again on next use. Keeps resident memory low behind a streaming read.
  void Release(absl::Span<const uint8_t> range) const;

  // Errors: kUnavailable when size, time of change or inode of the path are no
  // longer those of the mapping, i.e. results may mix two versions.
  absl::Status VerifyUnchanged() const;

  // Whether `device` and `inode` (of a stat) are this file's.
  bool SameFile(uint64_t device, uint64_t inode) const {
    return device == device_ && inode == inode_;
  }

 private:
  MappedFile() = default;

  std::string path_;
  const uint8_t* data_ = nullptr;
  uint64_t size_bytes_ = 0;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
  timespec modified_ = {};
  int range_slot_ = -1;  // in mapped_ranges.h
};

// Reads a whole regular file of at most `max_bytes`. Errors as
// MappedFile::Open, and kInvalidArgument when the file is larger.
absl::StatusOr<std::string> ReadFileToString(const std::string& path,
                                             uint64_t max_bytes);

}  // namespace qeff

#endif  // QEFF_UTIL_MAPPED_FILE_H_
