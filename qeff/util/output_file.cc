// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/output_file.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Linux transfers at most 0x7ffff000 bytes a call; whole MiB below that.
constexpr size_t kMaxWriteBytes = size_t{1} << 30;

// Crossing RLIMIT_FSIZE raises SIGXFSZ, which kills by default: find it first.
absl::Status CheckFileSizeLimit(absl::string_view path, CheckedU64 end_bytes) {
  if (!end_bytes.AtMost(
          static_cast<uint64_t>(std::numeric_limits<off_t>::max()))) {
    return OutputError(path, "write", EFBIG);
  }
  rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0) return absl::OkStatus();
  if (limit.rlim_cur == RLIM_INFINITY || end_bytes.value() <= limit.rlim_cur) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat(path, ": needs ", end_bytes.value(),
                   " bytes, but the limit on file sizes (ulimit -f) is ",
                   static_cast<uint64_t>(limit.rlim_cur)));
}

}  // namespace

absl::Status OutputError(absl::string_view path, absl::string_view operation,
                         int error_number) {
  const absl::Status status = IoError(path, operation, error_number);
  if (status.code() != absl::StatusCode::kNotFound) return status;
  return absl::UnavailableError(status.message());
}

absl::Span<const uint8_t> AsBytes(absl::string_view text) {
  return absl::Span<const uint8_t>(
      reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

std::string ParentFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    Close();
    std::swap(fd_, other.fd_);
  }
  return *this;
}

void FileDescriptor::Close() {
  // What must be durable was synced before: nothing is lost by an error here.
  if (fd_ >= 0) (void)close(fd_);
  fd_ = -1;
}

absl::Status OutputFile::Resize(uint64_t size_bytes) {
  QEFF_RETURN_IF_ERROR(CheckFileSizeLimit(path_, size_bytes));
  while (ftruncate(fd(), static_cast<off_t>(size_bytes)) != 0) {
    if (errno != EINTR) return OutputError(path_, "resize", errno);
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Write(uint64_t offset_bytes,
                               absl::Span<const uint8_t> bytes) {
  QEFF_RETURN_IF_ERROR(
      CheckFileSizeLimit(path_, CheckedU64(offset_bytes) + bytes.size()));
  while (!bytes.empty()) {
    const ssize_t n =
        pwrite(fd(), bytes.data(), std::min(bytes.size(), kMaxWriteBytes),
               static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    // A device that takes nothing and reports nothing would loop forever.
    if (n <= 0) return OutputError(path_, "write", n < 0 ? errno : ENOSPC);
    bytes.remove_prefix(static_cast<size_t>(n));
    offset_bytes += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Read(uint64_t offset_bytes,
                              absl::Span<uint8_t> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n =
        pread(fd(), bytes.data(), std::min(bytes.size(), kMaxWriteBytes),
              static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return OutputError(path_, "read", errno);
    if (n == 0) {
      return absl::UnavailableError(
          absl::StrCat(path_, ": the file ends at byte ", offset_bytes));
    }
    bytes.remove_prefix(static_cast<size_t>(n));
    offset_bytes += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

uint64_t OutputFile::AllocatedBytes() const {
  constexpr uint64_t kStatBlockBytes = 512;
  struct stat info;
  if (fstat(fd(), &info) != 0) return 0;
  return static_cast<uint64_t>(info.st_blocks) * kStatBlockBytes;
}

absl::Status OutputFile::Sync() {
  while (fsync(fd()) != 0) {
    if (errno != EINTR) return OutputError(path_, "fsync", errno);
  }
  return absl::OkStatus();
}

absl::Status CheckFreeSpace(const std::string& path, uint64_t needed_bytes) {
  struct statvfs info;
  if (statvfs(path.c_str(), &info) != 0) {
    return OutputError(path, "statvfs", errno);
  }
  // Some virtual file systems report no size at all.
  if (info.f_blocks == 0) return absl::OkStatus();
  const CheckedU64 free_bytes = CheckedU64(info.f_bavail) * info.f_frsize;
  if (!free_bytes.valid() || free_bytes.value() >= needed_bytes) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat(path, ": not enough space: needs ",
                                             needed_bytes, " bytes, free are ",
                                             free_bytes.value()));
}

absl::Status SyncFolder(int fd, absl::string_view path) {
  while (fsync(fd) != 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL || errno == ENOTSUP) return absl::OkStatus();
    return OutputError(path, "fsync", errno);
  }
  return absl::OkStatus();
}

}  // namespace qeff
