// SPDX-License-Identifier: Apache-2.0
//
// Finds stop strings in text that arrives in pieces.

#ifndef QEFF_DEVICE_STOP_MATCHER_H_
#define QEFF_DEVICE_STOP_MATCHER_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace qeff {

// Not thread-safe.
class StopMatcher {
 public:
  // Precondition: no string is empty.
  explicit StopMatcher(std::vector<std::string> stop_strings);

  // Takes the next piece and returns text that is certainly before any stop
  // string: all but the longest end that one could begin with. When a stop
  // string is complete, returns what stands before the one that begins first;
  // stopped() then holds, and further pieces return nothing.
  // Cost: pieces of n bytes take O((n + longest) * sum of lengths) at worst.
  std::string Append(absl::string_view piece);

  bool stopped() const { return stopped_; }

  // Returns what was held back: the text has ended without a stop string.
  std::string Flush();

 private:
  // Where the first stop string begins in held_, or npos.
  size_t FindFirst() const;
  // Length of the longest end of held_ that begins a stop string.
  size_t LongestOpenEnd() const;

  std::vector<std::string> stop_strings_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace qeff

#endif  // QEFF_DEVICE_STOP_MATCHER_H_
