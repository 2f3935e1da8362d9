// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"

namespace qeff {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings)
    : stop_strings_(std::move(stop_strings)) {}

std::string StopMatcher::Append(absl::string_view piece) {
  if (stopped_) return "";
  held_.append(piece.data(), piece.size());
  const size_t match = FindFirst();
  if (match != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, "").substr(0, match);
  }
  const size_t final_size = held_.size() - LongestOpenEnd();
  std::string text = held_.substr(0, final_size);
  held_.erase(0, final_size);
  return text;
}

std::string StopMatcher::Flush() { return std::exchange(held_, ""); }

size_t StopMatcher::FindFirst() const {
  size_t first = std::string::npos;
  for (const std::string& stop : stop_strings_) {
    first = std::min(first, held_.find(stop));
  }
  return first;
}

size_t StopMatcher::LongestOpenEnd() const {
  size_t longest = 0;
  for (const std::string& stop : stop_strings_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > longest; --n) {
      const absl::string_view end =
          absl::string_view(held_).substr(held_.size() - n);
      if (absl::StartsWith(stop, end)) longest = n;
    }
  }
  return longest;
}

}  // namespace qeff
