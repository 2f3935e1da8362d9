// SPDX-License-Identifier: Apache-2.0
//
// Which of several sizes each part of a model gets, so that what is lost in
// all is least within a budget: the multiple-choice knapsack problem, solved
// exactly. Parts are layers, or groups of layers that must agree; what a
// choice costs is the caller's to say.
//
//   std::vector<AllocationItem> items = {
//       {"q, k, v", {{100, 9.0}, {200, 1.0}}},
//       {"o", {{50, 5.0}, {100, 2.0}}}};
//   QEFF_ASSIGN_OR_RETURN(Allocation best, AllocateBits(items, 250));
//   // best.choices is {1, 0}.

#ifndef QEFF_QUANT_BIT_ALLOCATION_H_
#define QEFF_QUANT_BIT_ALLOCATION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace qeff {

struct AllocationChoice {
  uint64_t bytes = 0;  // at most 2^48
  double cost = 0;     // finite
};

struct AllocationItem {
  std::string name;  // for messages
  std::vector<AllocationChoice> choices;
};

struct Allocation {
  std::vector<size_t> choices;  // one an item: an index into its choices
  uint64_t bytes = 0;
  double cost = 0;           // added up in the order of the items
  size_t widest_states = 0;  // of the search, kept after any one item
};

// The choices with the least cost among those of at most `budget_bytes`; of
// equal costs the fewest bytes. A larger budget never costs more.
//
// Item by item it keeps the sums (bytes, cost) that no other beats in both, and
// from which the rest still fits. A sum in float64 never shrinks because one of
// its terms grew, so what is left out cannot be part of anything better, and
// the result is that of trying everything, to the last bit. At most budget /
// (greatest common divisor of the differences of bytes) + 1 sums are kept:
// about 24,000 for llama-7b's 128 groups of layers with 8 schemes each.
// Cost: n log n for n = sums times choices, an item (3 s for these). Memory:
// 32 bytes for each sum and item (100 MB).
//
// Errors: kInvalidArgument for a budget that even the smallest choices exceed,
// naming what they need, and, naming the item, for one without choices or with
// a choice out of range. Thread-safe.
absl::StatusOr<Allocation> AllocateBits(absl::Span<const AllocationItem> items,
                                        uint64_t budget_bytes);

}  // namespace qeff

#endif  // QEFF_QUANT_BIT_ALLOCATION_H_
