// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/text_file.h"

#include <cstdint>

#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
  QEFF_ASSIGN_OR_RETURN(std::string text, ReadFileToString(path, kMaxBytes));
  if (text.empty()) return InvalidInputError(path, ": the file is empty");
  const size_t nul = text.find('\0');
  if (nul == std::string::npos) return text;
  return InvalidInputError(path, ": expected text, found a NUL byte at ", nul);
}

}  // namespace qeff
