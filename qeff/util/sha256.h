// SPDX-License-Identifier: Apache-2.0
//
// SHA-256, for names that stand for content, in formats that ask for it. To
// find accidents in a file use checksum.h, which is ten times as fast.

#ifndef QEFF_UTIL_SHA256_H_
#define QEFF_UTIL_SHA256_H_

#include <string>

#include "absl/strings/string_view.h"

namespace qeff {

// 64 lower-case hexadecimal digits. Thread-safe. Source: FIPS 180-4.
std::string Sha256Hex(absl::string_view bytes);

}  // namespace qeff

#endif  // QEFF_UTIL_SHA256_H_
