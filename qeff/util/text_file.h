// SPDX-License-Identifier: Apache-2.0
//
// Reading texts of people, as commands are given them.

#ifndef QEFF_UTIL_TEXT_FILE_H_
#define QEFF_UTIL_TEXT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace qeff {

// The content of `path`, at most 1 GiB. Errors: those of ReadFileToString;
// kInvalidArgument for an empty file and for one that is no text: that holds a
// NUL byte, whose offset is named.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// The first characters of such a file in UTF-8, at most `bytes`; no more of it
// is looked at. Errors: as ReadTextFile.
absl::StatusOr<std::string> ReadTextBeginning(const std::string& path,
                                              uint64_t bytes);

}  // namespace qeff

#endif  // QEFF_UTIL_TEXT_FILE_H_
