// SPDX-License-Identifier: Apache-2.0

#include "qeff/prune/sparsity_pattern.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "qeff/util/status.h"

namespace qeff {

int64_t SparsityPattern::Removed(int64_t size) const {
  if (!grouped()) {
    // A product that is a whole number but for its last bit counts as one.
    return static_cast<int64_t>(
        std::floor(sparsity * static_cast<double>(size) * (1 + 1e-12)));
  }
  const int64_t tail = size % group;
  return size / group * (group - kept) + std::max<int64_t>(tail - kept, 0);
}

absl::StatusOr<SparsityPattern> ParseSparsityPattern(absl::string_view text) {
  SparsityPattern pattern;
  if (text.find(':') == absl::string_view::npos) {
    if (!absl::SimpleAtod(text, &pattern.sparsity) ||
        !(pattern.sparsity >= 0 && pattern.sparsity < 1)) {
      return InvalidInputError("\"", text,
                               "\": expected a share of the weights in [0, 1)");
    }
    return pattern;
  }
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (!absl::SimpleAtoi(parts.first, &pattern.kept) ||
      !absl::SimpleAtoi(parts.second, &pattern.group) || pattern.kept < 1 ||
      pattern.group <= pattern.kept ||
      pattern.group > SparsityPattern::kMaxGroup) {
    return InvalidInputError("\"", text, "\": expected N:M with 0 < N < M <= ",
                             SparsityPattern::kMaxGroup,
                             ", of which N weights of M are kept");
  }
  pattern.sparsity = 1 - static_cast<double>(pattern.kept) / pattern.group;
  return pattern;
}

std::string SparsityPatternName(const SparsityPattern& pattern) {
  if (pattern.grouped()) return absl::StrCat(pattern.kept, ":", pattern.group);
  return absl::StrCat(pattern.sparsity);
}

}  // namespace qeff
