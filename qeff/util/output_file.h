// SPDX-License-Identifier: Apache-2.0
//
// One file that is being written, and what every writer does about system
// calls: interrupted and short writes go on, and a failure names the path. For
// files that must appear complete or not at all use atomic_file.h or
// atomic_folder.h, which are made of this.

#ifndef QEFF_UTIL_OUTPUT_FILE_H_
#define QEFF_UTIL_OUTPUT_FILE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {

// As IoError, but a missing path is kUnavailable: for an output that is a
// failure of the place, not of what the user gave as input.
absl::Status OutputError(absl::string_view path, absl::string_view operation,
                         int error_number);

// Bytes of `text`, and of numbers, as writers take them.
absl::Span<const uint8_t> AsBytes(absl::string_view text);
template <typename Number>
absl::Span<const uint8_t> AsBytes(absl::Span<const Number> numbers) {
  static_assert(std::is_arithmetic<Number>::value, "has bytes of its own");
  return {reinterpret_cast<const uint8_t*>(numbers.data()),
          numbers.size() * sizeof(Number)};
}

// The folder that the file `path` lies in: "." of a name, "/" of "/name".
std::string ParentFolder(const std::string& path);

// An open file descriptor that is closed at the end. Thread-compatible.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.fd_) {
    other.fd_ = -1;
  }
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { Close(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void Close();

 private:
  int fd_ = -1;
};

// A file open for writing. Write is thread-safe; the rest is not.
class OutputFile {
 public:
  // Takes `fd`, which is open for writing; `path` is for messages.
  OutputFile(FileDescriptor fd, std::string path)
      : fd_(std::move(fd)), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }

  // Sets the size; new bytes read as zero and take no space until they are
  // written. Errors: kUnavailable, also when the process's limit on file sizes
  // (RLIMIT_FSIZE) is lower, for which no signal is raised.
  absl::Status Resize(uint64_t size_bytes);

  // Writes all of `bytes` at `offset_bytes`. Errors: kUnavailable with path
  // and errno text; the range is undefined then.
  absl::Status Write(uint64_t offset_bytes, absl::Span<const uint8_t> bytes);

  // Reads bytes back that were written; the descriptor must be open for
  // reading as well. Errors: kUnavailable, also when the file ends before.
  absl::Status Read(uint64_t offset_bytes, absl::Span<uint8_t> bytes) const;

  // What the file takes of the disk at present; 0 where that is not known.
  uint64_t AllocatedBytes() const;

  // Waits until the data is on the device. An error (kUnavailable) means that
  // data may be lost, and a second call must not be taken for success: give
  // the file up.
  absl::Status Sync();

 private:
  FileDescriptor fd_;
  std::string path_;
};

// Fails with kUnavailable, naming needed and free bytes, when the file system
// of the folder `path` has less than `needed_bytes` free. A check ahead of
// long work: a write can still fail later.
absl::Status CheckFreeSpace(const std::string& path, uint64_t needed_bytes);

// As OutputFile::Sync, for an open folder: makes its entries durable. File
// systems that cannot do that are no error.
absl::Status SyncFolder(int fd, absl::string_view path);

}  // namespace qeff

#endif  // QEFF_UTIL_OUTPUT_FILE_H_
