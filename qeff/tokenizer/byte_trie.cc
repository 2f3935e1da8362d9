// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/byte_trie.h"

namespace qeff {

void ByteTrie::Insert(absl::string_view key, int32_t value) {
  uint32_t node = kRoot;
  for (const char byte : key) {
    const auto [it, is_new] = children_.try_emplace(
        Key(node, byte), static_cast<uint32_t>(values_.size()));
    if (is_new) values_.push_back(-1);
    node = it->second;
  }
  values_[node] = value;
}

uint32_t ByteTrie::Descend(uint32_t node, absl::string_view bytes) const {
  for (size_t i = 0; i < bytes.size() && node != kNoNode; ++i) {
    node = Child(node, bytes[i]);
  }
  return node;
}

ByteTrie::Match ByteTrie::Longest(absl::string_view text, uint32_t node) const {
  Match best = {-1, 0};
  for (size_t i = 0; i < text.size(); ++i) {
    node = Child(node, text[i]);
    if (node == kNoNode) break;
    if (Value(node) >= 0) best = {Value(node), i + 1};
  }
  return best;
}

}  // namespace qeff
