// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "qeff/util/mapped_ranges.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Opens a regular file. O_NONBLOCK keeps a FIFO from blocking the open.
absl::StatusOr<int> OpenRegular(const std::string& path, struct stat* info) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return IoError(path, "open", errno);
  absl::Cleanup closer = [fd] { close(fd); };
  if (fstat(fd, info) != 0) return IoError(path, "stat", errno);
  if (!S_ISREG(info->st_mode)) {
    return InvalidInputError(
        path, ": expected a regular file, found ",
        S_ISDIR(info->st_mode) ? "a directory" : "a special file");
  }
  std::move(closer).Cancel();
  return fd;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(
    const std::string& path) {
  struct stat info;
  QEFF_ASSIGN_OR_RETURN(const int fd, OpenRegular(path, &info));
  absl::Cleanup closer = [fd] { close(fd); };
  std::shared_ptr<MappedFile> file(new MappedFile());
  file->path_ = path;
  file->size_bytes_ = static_cast<uint64_t>(info.st_size);
  file->device_ = info.st_dev;
  file->inode_ = info.st_ino;
  file->modified_ = info.st_mtim;
  if (info.st_size > 0) {
    void* data = mmap(nullptr, file->size_bytes_, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) return IoError(path, "mmap", errno);
    file->data_ = static_cast<const uint8_t*>(data);
    file->range_slot_ =
        internal_mapped_ranges::Register(data, file->size_bytes_, path.c_str());
  }
  return std::shared_ptr<const MappedFile>(std::move(file));
}

MappedFile::~MappedFile() {
  internal_mapped_ranges::Unregister(range_slot_);
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_bytes_);
}

void MappedFile::WillNeed(absl::Span<const uint8_t> range) const {
  if (range.empty()) return;
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin =
      reinterpret_cast<uintptr_t>(range.data()) & ~(page - 1);
  const uintptr_t end =
      reinterpret_cast<uintptr_t>(range.data()) + range.size();
  // Advice only: a failure costs speed, nothing else.
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

void MappedFile::Release(absl::Span<const uint8_t> range) const {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin =
      (reinterpret_cast<uintptr_t>(range.data()) + page - 1) & ~(page - 1);
  const uintptr_t end =
      (reinterpret_cast<uintptr_t>(range.data()) + range.size()) & ~(page - 1);
  if (begin >= end) return;
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

absl::Status MappedFile::VerifyUnchanged() const {
  struct stat info;
  if (stat(path_.c_str(), &info) != 0) return IoError(path_, "stat", errno);
  if (info.st_dev != device_ || info.st_ino != inode_ ||
      static_cast<uint64_t>(info.st_size) != size_bytes_ ||
      info.st_mtim.tv_sec != modified_.tv_sec ||
      info.st_mtim.tv_nsec != modified_.tv_nsec) {
    return absl::UnavailableError(
        absl::StrCat(path_, ": file changed while it was being read"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFileToString(const std::string& path,
                                             uint64_t max_bytes) {
  struct stat info;
  QEFF_ASSIGN_OR_RETURN(const int fd, OpenRegular(path, &info));
  absl::Cleanup closer = [fd] { close(fd); };
  const uint64_t size_bytes = static_cast<uint64_t>(info.st_size);
  if (size_bytes > max_bytes) {
    return InvalidInputError(path, ": file has ", size_bytes,
                             " bytes, expected at most ", max_bytes);
  }
  std::string content(size_bytes, '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = read(fd, &content[done], content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return IoError(path, "read", errno);
    if (n == 0) {
      return absl::UnavailableError(
          absl::StrCat(path, ": file shrank while it was being read"));
    }
    done += static_cast<size_t>(n);
  }
  return content;
}

}  // namespace qeff
