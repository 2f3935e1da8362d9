// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/bit_allocation.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "qeff/util/status.h"

namespace qeff {
namespace {

// Keeps sums of 2^15 items within 63 bits.
constexpr uint64_t kMostBytes = uint64_t{1} << 48;
constexpr size_t kMostItems = size_t{1} << 15;

// A sum over the first items.
struct State {
  uint64_t bytes;
  double cost;
  size_t previous;  // among the sums over one item less
  size_t choice;    // of the last item
};

absl::Status CheckItems(absl::Span<const AllocationItem> items) {
  if (items.size() > kMostItems) {
    return InvalidInputError("bit allocation: ", items.size(),
                             " groups of layers; at most ", kMostItems);
  }
  for (const AllocationItem& item : items) {
    if (item.choices.empty()) {
      return InvalidInputError("bit allocation: ", item.name,
                               ": no scheme to choose");
    }
    for (const AllocationChoice& choice : item.choices) {
      if (choice.bytes > kMostBytes) {
        return InvalidInputError("bit allocation: ", item.name, ": ",
                                 choice.bytes, " bytes; at most ", kMostBytes);
      }
      if (!std::isfinite(choice.cost)) {
        return InvalidInputError("bit allocation: ", item.name,
                                 ": a cost is not finite");
      }
    }
  }
  return absl::OkStatus();
}

// The fewest bytes of items i and later, for every i, and 0 at the end.
std::vector<uint64_t> LeastBytes(absl::Span<const AllocationItem> items) {
  std::vector<uint64_t> least(items.size() + 1, 0);
  for (size_t i = items.size(); i-- > 0;) {
    uint64_t smallest = kMostBytes;
    for (const AllocationChoice& choice : items[i].choices) {
      smallest = std::min(smallest, choice.bytes);
    }
    least[i] = least[i + 1] + smallest;
  }
  return least;
}

// Leaves the states that no other beats, by rising bytes and falling cost.
void KeepUnbeaten(std::vector<State>* states) {
  std::sort(states->begin(), states->end(), [](const State& a, const State& b) {
    return std::tie(a.bytes, a.cost, a.previous, a.choice) <
           std::tie(b.bytes, b.cost, b.previous, b.choice);
  });
  size_t kept = 0;
  for (const State& state : *states) {
    if (kept > 0 && (*states)[kept - 1].cost <= state.cost) continue;
    (*states)[kept++] = state;
  }
  states->resize(kept);
  states->shrink_to_fit();
}

// Every state with every choice of `item`, of at most `budget_bytes`.
std::vector<State> Extend(const std::vector<State>& states,
                          const AllocationItem& item, uint64_t budget_bytes) {
  std::vector<State> extended;
  for (size_t s = 0; s < states.size(); ++s) {
    for (size_t c = 0; c < item.choices.size(); ++c) {
      const uint64_t bytes = states[s].bytes + item.choices[c].bytes;
      if (bytes > budget_bytes) continue;
      extended.push_back({bytes, states[s].cost + item.choices[c].cost, s, c});
    }
  }
  KeepUnbeaten(&extended);
  return extended;
}

}  // namespace

absl::StatusOr<Allocation> AllocateBits(absl::Span<const AllocationItem> items,
                                        uint64_t budget_bytes) {
  QEFF_RETURN_IF_ERROR(CheckItems(items));
  const std::vector<uint64_t> least = LeastBytes(items);
  if (least[0] > budget_bytes) {
    return InvalidInputError("bit allocation: the budget is ", budget_bytes,
                             " bytes; the least that is possible is ",
                             least[0]);
  }
  Allocation result;
  std::vector<std::vector<State>> levels = {{{0, 0.0, 0, 0}}};
  for (size_t i = 0; i < items.size(); ++i) {
    levels.push_back(
        Extend(levels.back(), items[i], budget_bytes - least[i + 1]));
    result.widest_states = std::max(result.widest_states, levels.back().size());
  }
  // The last has the most bytes and the least cost.
  size_t at = levels.back().size() - 1;
  result.bytes = levels.back()[at].bytes;
  result.cost = levels.back()[at].cost;
  result.choices.resize(items.size());
  for (size_t i = items.size(); i > 0; --i) {
    const State& state = levels[i][at];
    result.choices[i - 1] = state.choice;
    at = state.previous;
  }
  return result;
}

}  // namespace qeff
