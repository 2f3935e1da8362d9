// SPDX-License-Identifier: Apache-2.0
//
// Hash tables for all but the innermost loops. Abseil's are faster, but when an
// allocation in one fails it is left in a state that its destructor frees what
// it must not (raw_hash_set::resize of 20220623 changes the capacity first), so
// that running out of memory could not become a Status.

#ifndef QEFF_UTIL_HASH_MAP_H_
#define QEFF_UTIL_HASH_MAP_H_

#include <unordered_map>
#include <unordered_set>

#include "absl/hash/hash.h"

namespace qeff {

// As the standard's, for every key that absl::Hash takes, with C++20's
// contains.
template <class Key, class Value>
class HashMap : public std::unordered_map<Key, Value, absl::Hash<Key>> {
 public:
  using std::unordered_map<Key, Value, absl::Hash<Key>>::unordered_map;
  bool contains(const Key& key) const { return this->find(key) != this->end(); }
};

template <class Key>
class HashSet : public std::unordered_set<Key, absl::Hash<Key>> {
 public:
  using std::unordered_set<Key, absl::Hash<Key>>::unordered_set;
  bool contains(const Key& key) const { return this->find(key) != this->end(); }
};

}  // namespace qeff

#endif  // QEFF_UTIL_HASH_MAP_H_
