// SPDX-License-Identifier: Apache-2.0
//
// Finds which of a set of strings begin at a place in a text.

#ifndef QEFF_TOKENIZER_BYTE_TRIE_H_
#define QEFF_TOKENIZER_BYTE_TRIE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace qeff {

// A trie over bytes. Thread-compatible. Children are in a table of their own,
// since each byte of a text is looked up: half as full as it may be at most,
// probed one after another.
class ByteTrie {
 public:
  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNoNode = 0xFFFFFFFFu;

  ByteTrie() : values_(1, -1) {}

  // Adds a string with a value >= 0; replaces the value of an equal string.
  void Insert(absl::string_view key, int32_t value);

  bool empty() const { return values_.size() == 1; }

  // The node that `byte` leads to from `node`, or kNoNode.
  uint32_t Child(uint32_t node, char byte) const {
    if (children_.empty()) return kNoNode;
    return children_[Place(Key(node, byte))].child;
  }
  // The node that `bytes` lead to from `node`, or kNoNode.
  uint32_t Descend(uint32_t node, absl::string_view bytes) const;
  // The value of the string that ends at `node`, or -1.
  int32_t Value(uint32_t node) const { return values_[node]; }

  struct Match {
    int32_t value;  // -1: none
    size_t length;  // bytes after the place where the search began
  };
  // The longest string along `text` from `node`.
  Match Longest(absl::string_view text, uint32_t node = kRoot) const;

 private:
  static uint64_t Key(uint32_t node, char byte) {
    return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
  }

  struct Edge {
    uint64_t key = ~uint64_t{0};  // of no node
    uint32_t child = kNoNode;
  };

  // Where `key` is, or else a free place. Precondition: children_ has one.
  size_t Place(uint64_t key) const {
    const size_t mask = children_.size() - 1;
    // Fibonacci hashing (Knuth, volume 3, section 6.4): the high bits are
    // mixed.
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 32) & mask;
    while (children_[at].child != kNoNode && children_[at].key != key) {
      at = (at + 1) & mask;
    }
    return at;
  }
  void Grow();

  std::vector<Edge> children_;  // a power of two of places, or none
  size_t edges_ = 0;
  std::vector<int32_t> values_;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_BYTE_TRIE_H_
