// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/bpe_merge.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using Ids = std::vector<int32_t>;
using Candidate = BpeCandidate<int32_t>;
using Rules = std::map<std::pair<int32_t, int32_t>, Candidate>;

// Written from the definition: the whole word is searched for each merge.
Ids MergeByDefinition(const Rules& rules, Ids ids) {
  while (true) {
    Candidate best;
    size_t at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto it = rules.find({ids[i], ids[i + 1]});
      if (it != rules.end() && it->second.rank < best.rank) {
        best = it->second;
        at = i;
      }
    }
    if (best.rank == Candidate::kNever) return ids;
    ids[at] = best.merged;
    ids.erase(ids.begin() + at + 1);
  }
}

template <void (*kMerge)(const Rules&, Ids*)>
void ExpectEqualToDefinition(size_t max_symbols) {
  Random random(7);
  for (int round = 0; round < 3000; ++round) {
    // Ranks in any order, equal ones among them, as a hostile file may have.
    Rules rules;
    const uint64_t letters = 1 + random.NextBelow(4);
    int32_t next_id = static_cast<int32_t>(letters);
    for (uint64_t i = random.NextBelow(30); i > 0; --i) {
      const auto left = static_cast<int32_t>(random.NextBelow(next_id));
      const auto right = static_cast<int32_t>(random.NextBelow(next_id));
      rules[{left, right}] = {static_cast<uint32_t>(random.NextBelow(20)),
                              next_id++};
    }
    Ids ids;
    for (uint64_t i = random.NextBelow(max_symbols); i > 0; --i) {
      ids.push_back(static_cast<int32_t>(random.NextBelow(letters)));
    }
    const Ids expected = MergeByDefinition(rules, ids);
    kMerge(rules, &ids);
    ASSERT_EQ(ids, expected) << "round " << round;
  }
}

auto Lookup(const Rules& rules) {
  return [&rules](int32_t left, int32_t right) {
    const auto it = rules.find({left, right});
    return it == rules.end() ? Candidate() : it->second;
  };
}

void Short(const Rules& rules, Ids* ids) {
  if (ids->size() > 1) internal_bpe::MergeShort(Lookup(rules), ids);
}
void Long(const Rules& rules, Ids* ids) {
  if (ids->empty()) return;
  const auto pairs = Lookup(rules);
  internal_bpe::LongMerger<int32_t, decltype(pairs)>(pairs, ids).Run();
}

TEST(BpeMergeTest, ShortWords) {
  ExpectEqualToDefinition<Short>(internal_bpe::kShortWord);
}

TEST(BpeMergeTest, LongWords) { ExpectEqualToDefinition<Long>(120); }

TEST(BpeMergeTest, WordsOfAnyLength) {
  Ids none;
  MergeBpe(Lookup({}), &none);
  EXPECT_TRUE(none.empty());
  Ids one = {5};
  MergeBpe(Lookup({}), &one);
  EXPECT_EQ(one, Ids{5});
}

// Ranks that fall with every merge make each new pair the next to merge.
TEST(BpeMergeTest, HostileRanksAreNotQuadratic) {
  const auto pairs = [](int32_t left, int32_t right) {
    Candidate candidate;
    if (right == 0 && left < 1 << 20) {
      candidate.rank = static_cast<uint32_t>((1 << 20) - left);
      candidate.merged = left + 1;
    }
    return candidate;
  };
  Ids ids(1 << 19, 0);
  const auto start = std::chrono::steady_clock::now();
  MergeBpe(pairs, &ids);
  EXPECT_LT(ids.size(), 4u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

}  // namespace
}  // namespace qeff
