// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/mapped_ranges.h"

#include <atomic>
#include <cstring>

namespace qeff {
namespace internal_mapped_ranges {
namespace {

// More than the shards of any common model; 135 KiB of zero pages.
constexpr int kSlots = 256;

enum State : int { kFree, kFilling, kUsed };

struct Slot {
  std::atomic<int> state;
  std::atomic<uintptr_t> begin;
  std::atomic<size_t> size_bytes;
  char path[kMaxPathBytes];
};

Slot slots[kSlots];

}  // namespace

int Register(const void* begin, size_t size_bytes, const char* path) {
  for (int i = 0; i < kSlots; ++i) {
    Slot& slot = slots[i];
    int expected = kFree;
    if (!slot.state.compare_exchange_strong(expected, kFilling)) continue;
    slot.begin = reinterpret_cast<uintptr_t>(begin);
    slot.size_bytes = size_bytes;
    const size_t length = std::strlen(path);
    const size_t skip = length < kMaxPathBytes ? 0 : length - kMaxPathBytes + 1;
    std::memcpy(slot.path, path + skip, length - skip + 1);
    slot.state = kUsed;
    return i;
  }
  return -1;
}

void Unregister(int slot) {
  if (slot >= 0) slots[slot].state = kFree;
}

const char* FindPath(const void* address) {
  const uintptr_t target = reinterpret_cast<uintptr_t>(address);
  for (const Slot& slot : slots) {
    if (slot.state == kUsed && target >= slot.begin &&
        target - slot.begin < slot.size_bytes) {
      return slot.path;
    }
  }
  return nullptr;
}

}  // namespace internal_mapped_ranges
}  // namespace qeff
