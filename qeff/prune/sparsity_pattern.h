// SPDX-License-Identifier: Apache-2.0
//
// How many weights of a layer are removed, and where they may lie.

#ifndef QEFF_PRUNE_SPARSITY_PATTERN_H_
#define QEFF_PRUNE_SPARSITY_PATTERN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace qeff {

// Either a share of a layer's weights, wherever they lie ("unstructured"), or
// N:M: at most N of each M consecutive inputs of a row are kept, counted from
// its beginning. A row whose length is no multiple of M ends with a shorter
// group, which keeps N as well, or all that it has.
struct SparsityPattern {
  double sparsity = 0;  // in [0, 1): of weights that are removed
  int kept = 0;         // N; 0 < N < M
  int group = 0;        // M, at most kMaxGroup; 0: unstructured

  static constexpr int kMaxGroup = 32;

  bool grouped() const { return group > 0; }
  // Weights that are removed of the `size` first of a row, a group or a block.
  int64_t Removed(int64_t size) const;
};

// "2:4" or "0.5". Errors: kInvalidArgument saying what is expected.
absl::StatusOr<SparsityPattern> ParseSparsityPattern(absl::string_view text);
std::string SparsityPatternName(const SparsityPattern& pattern);

}  // namespace qeff

#endif  // QEFF_PRUNE_SPARSITY_PATTERN_H_
