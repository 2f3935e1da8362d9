// SPDX-License-Identifier: Apache-2.0
//
// Regular expressions over module names, such as "model\.layers\.\d+\.mlp.*".
// They come from config files as well as from flags, hence matching in linear
// time and constant stack: std::regex can do neither.

#ifndef QEFF_FORMAT_NAME_PATTERN_H_
#define QEFF_FORMAT_NAME_PATTERN_H_

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qeff {

// A compiled pattern. Syntax, with the meaning that Perl and Python give it:
// literals, `.`, `[...]` with ranges and `^`, `\d \D \w \W \s \S`, `\` before
// punctuation, `(...)`, `(?:...)`, `|`, `*`, `+`, `?` (and their lazy forms,
// which match the same names), `{m}`, `{m,}`, `{m,n}`, `^` and `$`. Matching is
// by bytes. Thread-safe once compiled.
class NamePattern {
 public:
  // Errors: kInvalidArgument for a syntax error; kUnimplemented for anything
  // else that regular expressions have (look-around, back-references, named
  // groups); kInvalidArgument for a pattern of over 1024 bytes, nested deeper
  // than 32 groups, or of over 1024 states (about one a character) once counts
  // are expanded. They name the pattern.
  static absl::StatusOr<NamePattern> Compile(absl::string_view pattern);

  // Whether some part of `name` matches, as Python's re.search.
  bool Search(absl::string_view name) const;
  // Whether a part of `name` that begins at its start matches, as re.match.
  bool MatchPrefix(absl::string_view name) const;

 private:
  enum class Op : uint8_t { kBytes, kSplit, kJump, kBegin, kEnd, kAccept };
  struct Instruction {
    Op op;
    int32_t next = 0;        // kSplit, kJump
    int32_t other = 0;       // kSplit
    std::bitset<256> bytes;  // kBytes
  };
  class Compiler;

  bool Run(absl::string_view name, bool anywhere) const;

  std::vector<Instruction> program_;
};

}  // namespace qeff

#endif  // QEFF_FORMAT_NAME_PATTERN_H_
