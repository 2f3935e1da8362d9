// SPDX-License-Identifier: Apache-2.0
//
// From the bytes of a piece of text to the token that is exactly it.

#ifndef QEFF_TOKENIZER_VOCABULARY_H_
#define QEFF_TOKENIZER_VOCABULARY_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// An index over strings, by open addressing. Thread-compatible. The strings
// must outlive it.
class Vocabulary {
 public:
  Vocabulary() = default;
  explicit Vocabulary(const StringPool* strings);

  // Makes string `id` findable. False when an equal one already is.
  bool Insert(int32_t id);

  // The id of the string that equals `text`, or -1.
  int32_t Find(absl::string_view text) const {
    const uint64_t hash = Hash(text);
    const uint32_t tag = static_cast<uint32_t>(hash >> 32);
    for (size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.id < 0) return -1;
      if (slot.tag == tag && (*strings_)[slot.id] == text) return slot.id;
    }
  }

  // Bytes of the longest string that was inserted.
  size_t longest_bytes() const { return longest_bytes_; }

 private:
  struct Slot {
    uint32_t tag;
    int32_t id;
  };

  // Eight bytes at a time through a multiplication whose halves are folded.
  static uint64_t Hash(absl::string_view text) {
    constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;
    uint64_t hash = text.size() * kMultiplier;
    const char* data = text.data();
    size_t left = text.size();
    for (; left >= 8; data += 8, left -= 8) {
      uint64_t word;
      std::memcpy(&word, data, 8);
      hash = Fold((hash ^ word) * kMultiplier);
    }
    uint64_t word = 0;
    for (size_t i = 0; i < left; ++i) {
      word |= static_cast<uint64_t>(static_cast<uint8_t>(data[i])) << (8 * i);
    }
    return Fold(Fold((hash ^ word) * kMultiplier) * kMultiplier);
  }
  static uint64_t Fold(uint64_t x) { return x ^ x >> 32; }

  const StringPool* strings_ = nullptr;
  std::vector<Slot> slots_ = {{0, -1}};
  size_t mask_ = 0;
  size_t longest_bytes_ = 0;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_VOCABULARY_H_
