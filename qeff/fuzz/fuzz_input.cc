// SPDX-License-Identifier: Apache-2.0

#include "qeff/fuzz/fuzz_input.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Debian mounts a tmpfs here for everybody. Files on a disk would make fsync
// the most of a run.
constexpr char kMemoryFolder[] = "/dev/shm";

void WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    QEFF_CHECK(written > 0);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

void CheckFuzzResult(const absl::Status& status) {
  if (status.ok()) return;
  QEFF_CHECK(!status.message().empty());
  QEFF_CHECK(status.code() != absl::StatusCode::kInternal);
  QEFF_CHECK(status.code() != absl::StatusCode::kUnknown);
  QEFF_CHECK(status.code() != absl::StatusCode::kResourceExhausted);
}

MemoryFile::MemoryFile()
    : fd_(memfd_create("fuzz", MFD_CLOEXEC)),
      path_(absl::StrCat("/proc/self/fd/", fd_)) {
  QEFF_CHECK(fd_ >= 0);
}

MemoryFile::~MemoryFile() { close(fd_); }

void MemoryFile::Write(absl::string_view bytes) {
  QEFF_CHECK(ftruncate(fd_, 0) == 0 && lseek(fd_, 0, SEEK_SET) == 0);
  WriteAll(fd_, bytes);
}

MemoryFolder::MemoryFolder()
    : path_(absl::StrCat(kMemoryFolder, "/qeff-XXXXXX")) {
  QEFF_CHECK(mkdtemp(path_.data()) != nullptr);
}

MemoryFolder::~MemoryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void MemoryFolder::Write(const std::string& name,
                         absl::string_view bytes) const {
  const std::string file = absl::StrCat(path_, "/", name);
  const int fd =
      open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  QEFF_CHECK(fd >= 0);
  WriteAll(fd, bytes);
  close(fd);
}

std::vector<absl::string_view> SplitFuzzInput(absl::string_view bytes,
                                              size_t files) {
  std::vector<absl::string_view> parts;
  while (parts.size() + 1 < files) {
    const size_t end = bytes.find('\0');
    parts.push_back(bytes.substr(0, end));
    bytes = end == bytes.npos ? absl::string_view() : bytes.substr(end + 1);
  }
  parts.push_back(bytes);
  return parts;
}

void ReadAllBytes(absl::Span<const uint8_t> bytes) {
  uint8_t all = 0;
  for (const uint8_t byte : bytes) all ^= byte;
  // Nobody needs the result, but the compiler must not know that.
  asm volatile("" : : "r"(all));
}

}  // namespace qeff
