// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/darts.h"

#include <vector>

namespace qeff {
namespace {

class Unit {
 public:
  explicit Unit(uint32_t unit) : unit_(unit) {}
  bool has_leaf() const { return (unit_ >> 8 & 1) != 0; }
  uint32_t value() const { return unit_ & 0x7FFFFFFFu; }
  // A leaf's is never that of a byte.
  uint32_t label() const { return unit_ & 0x800000FFu; }
  bool is_leaf() const { return (unit_ & 0x80000000u) != 0; }
  uint32_t offset() const { return (unit_ >> 10) << ((unit_ & 0x200u) >> 6); }

 private:
  uint32_t unit_;
};

}  // namespace

DartsMatch LongestDartsMatch(absl::Span<const uint32_t> units,
                             absl::string_view text) {
  DartsMatch best = {0, 0};
  if (units.empty()) return best;
  size_t node = Unit(units[0]).offset();
  for (size_t i = 0; i < text.size(); ++i) {
    const uint32_t label = static_cast<uint8_t>(text[i]);
    node ^= label;
    if (node >= units.size()) break;
    const Unit unit(units[node]);
    if (unit.label() != label) break;
    node ^= unit.offset();
    if (unit.has_leaf() && node < units.size()) {
      best = {Unit(units[node]).value(), i + 1};
    }
  }
  return best;
}

bool ValidDarts(absl::Span<const uint32_t> units,
                bool (*valid_value)(uint32_t value, const void* context),
                const void* context) {
  if (units.empty()) return true;
  std::vector<bool> seen(units.size(), false);
  std::vector<size_t> open = {0};
  seen[0] = true;
  while (!open.empty()) {
    const size_t node = open.back();
    open.pop_back();
    const Unit unit(units[node]);
    // Children stand in one block of 256; arrays are whole blocks.
    const size_t base = node ^ unit.offset();
    if ((base | 255) >= units.size()) return false;
    if (unit.has_leaf()) {
      const Unit leaf(units[base]);
      if (!leaf.is_leaf() || !valid_value(leaf.value(), context)) return false;
    }
    for (uint32_t label = 0; label < 256; ++label) {
      const size_t child = base ^ label;
      if (child == 0 || Unit(units[child]).label() != label || seen[child]) {
        continue;
      }
      seen[child] = true;
      open.push_back(child);
    }
  }
  return true;
}

}  // namespace qeff
