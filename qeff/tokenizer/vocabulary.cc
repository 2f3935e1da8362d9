// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/vocabulary.h"

#include <algorithm>

namespace qeff {

Vocabulary::Vocabulary(const StringPool* strings) : strings_(strings) {
  size_t capacity = 16;
  while (capacity < 2 * strings->size()) capacity *= 2;
  slots_.assign(capacity, {0, -1});
  mask_ = capacity - 1;
}

bool Vocabulary::Insert(int32_t id) {
  const absl::string_view text = (*strings_)[id];
  const uint64_t hash = Hash(text);
  const uint32_t tag = static_cast<uint32_t>(hash >> 32);
  size_t i = hash & mask_;
  for (; slots_[i].id >= 0; i = (i + 1) & mask_) {
    if (slots_[i].tag == tag && (*strings_)[slots_[i].id] == text) return false;
  }
  slots_[i] = {tag, id};
  longest_bytes_ = std::max(longest_bytes_, text.size());
  return true;
}

}  // namespace qeff
