// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/byte_trie.h"

#include <algorithm>

namespace qeff {

void ByteTrie::Grow() {
  std::vector<Edge> old(std::max<size_t>(2 * children_.size(), 64));
  old.swap(children_);
  for (const Edge& edge : old) {
    if (edge.child != kNoNode) children_[Place(edge.key)] = edge;
  }
}

void ByteTrie::Insert(absl::string_view key, int32_t value) {
  uint32_t node = kRoot;
  for (const char byte : key) {
    if (2 * (edges_ + 1) > children_.size()) Grow();
    Edge& edge = children_[Place(Key(node, byte))];
    if (edge.child == kNoNode) {
      values_.push_back(-1);
      edge = {Key(node, byte), static_cast<uint32_t>(values_.size() - 1)};
      ++edges_;
    }
    node = edge.child;
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
