// SPDX-License-Identifier: Apache-2.0
//
// Regular expressions over names, such as "model\.layers\.\d+\.mlp.*", from
// flags and from config files: hence matching in linear time.

#ifndef QEFF_UTIL_NAME_PATTERN_H_
#define QEFF_UTIL_NAME_PATTERN_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace re2 {
class RE2;
}  // namespace re2

namespace qeff {

// A compiled pattern in the syntax of RE2: that of Perl and Python without
// look-around and back-references. Matching is by bytes. Thread-safe; copies
// share the program.
class NamePattern {
 public:
  // Errors (kInvalidArgument), naming the pattern: a syntax error, or a
  // pattern of over 1024 bytes or whose program takes over 1 MiB.
  static absl::StatusOr<NamePattern> Compile(absl::string_view pattern);

  // Whether some part of `name` matches, as Python's re.search.
  bool Search(absl::string_view name) const;
  // Whether a part of `name` that begins at its start matches, as re.match.
  bool MatchPrefix(absl::string_view name) const;

 private:
  explicit NamePattern(std::shared_ptr<const re2::RE2> regex);

  std::shared_ptr<const re2::RE2> regex_;
};

}  // namespace qeff

#endif  // QEFF_UTIL_NAME_PATTERN_H_
