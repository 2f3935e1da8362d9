// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/text_file.h"

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/types/span.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

absl::StatusOr<std::string> CheckText(std::string text,
                                      const std::string& path) {
  if (text.empty()) return InvalidInputError(path, ": the file is empty");
  const size_t nul = text.find('\0');
  if (nul == std::string::npos) return text;
  return InvalidInputError(path, ": expected text, found a NUL byte at ", nul);
}

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
  QEFF_ASSIGN_OR_RETURN(std::string text, ReadFileToString(path, kMaxBytes));
  return CheckText(std::move(text), path);
}

absl::StatusOr<std::string> ReadTextBeginning(const std::string& path,
                                              uint64_t bytes) {
  QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file,
                        MappedFile::Open(path));
  absl::Span<const uint8_t> begin = file->bytes().subspan(0, bytes);
  // From 0x80 to 0xBF are bytes within a character, which may be cut off.
  while (begin.size() < file->size_bytes() && !begin.empty() &&
         (file->bytes()[begin.size()] & 0xC0) == 0x80) {
    begin.remove_suffix(1);
  }
  return CheckText(std::string(begin.begin(), begin.end()), path);
}

}  // namespace qeff
