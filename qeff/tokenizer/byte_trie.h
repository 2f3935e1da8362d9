// SPDX-License-Identifier: Apache-2.0
//
// Finds which of a set of strings begin at a place in a text.

#ifndef QEFF_TOKENIZER_BYTE_TRIE_H_
#define QEFF_TOKENIZER_BYTE_TRIE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace qeff {

// A trie over bytes. Thread-compatible.
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
    const auto it = children_.find(Key(node, byte));
    return it == children_.end() ? kNoNode : it->second;
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

  absl::flat_hash_map<uint64_t, uint32_t> children_;
  std::vector<int32_t> values_;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_BYTE_TRIE_H_
