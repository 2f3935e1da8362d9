// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/messages.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace qeff {

std::string QuoteName(absl::string_view name) {
  constexpr size_t kMaxBytes = 100;
  return absl::StrCat("'", absl::CHexEscape(name.substr(0, kMaxBytes)),
                      name.size() > kMaxBytes ? "...'" : "'");
}

std::string QuoteFirst(absl::Span<const absl::string_view> names) {
  constexpr size_t kMaxNames = 10;
  std::string text;
  for (absl::string_view name : names.subspan(0, kMaxNames)) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", QuoteName(name));
  }
  if (names.size() > kMaxNames) {
    absl::StrAppend(&text, " and ", names.size() - kMaxNames, " more");
  }
  return text;
}

}  // namespace qeff
