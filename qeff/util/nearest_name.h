// SPDX-License-Identifier: Apache-2.0
//
// For errors about names that people type.

#ifndef QEFF_UTIL_NEAREST_NAME_H_
#define QEFF_UTIL_NEAREST_NAME_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qeff {

// The candidate with the least edit distance to `word`, or "" when none is
// closer than half of its length. Thread-safe.
std::string NearestName(absl::string_view word,
                        const std::vector<std::string>& candidates);

// "; did you mean PREFIX + that name?", or "".
std::string DidYouMean(absl::string_view word,
                       const std::vector<std::string>& candidates,
                       absl::string_view prefix = "");

}  // namespace qeff

#endif  // QEFF_UTIL_NEAREST_NAME_H_
