// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/name_pattern.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "qeff/util/status.h"
#include "re2/re2.h"

namespace qeff {
namespace {

constexpr size_t kMaxPatternBytes = 1024;
constexpr int64_t kMaxProgramBytes = int64_t{1} << 20;

re2::StringPiece ToPiece(absl::string_view text) {
  return re2::StringPiece(text.data(), text.size());
}

}  // namespace

NamePattern::NamePattern(std::shared_ptr<const re2::RE2> regex)
    : regex_(std::move(regex)) {}

absl::StatusOr<NamePattern> NamePattern::Compile(absl::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return InvalidInputError("pattern: has ", pattern.size(),
                             " bytes, expected at most ", kMaxPatternBytes);
  }
  re2::RE2::Options options;
  options.set_encoding(re2::RE2::Options::EncodingLatin1);
  options.set_max_mem(kMaxProgramBytes);
  options.set_log_errors(false);
  auto regex = std::make_shared<const re2::RE2>(ToPiece(pattern), options);
  if (!regex->ok()) {
    return InvalidInputError("pattern '", absl::CHexEscape(pattern),
                             "': ", regex->error());
  }
  return NamePattern(std::move(regex));
}

bool NamePattern::Search(absl::string_view name) const {
  return re2::RE2::PartialMatch(ToPiece(name), *regex_);
}

bool NamePattern::MatchPrefix(absl::string_view name) const {
  return regex_->Match(ToPiece(name), 0, name.size(), re2::RE2::ANCHOR_START,
                       nullptr, 0);
}

}  // namespace qeff
