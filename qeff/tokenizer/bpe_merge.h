// SPDX-License-Identifier: Apache-2.0
//
// The merge loop of byte-pair encoding: while any two neighbours may merge,
// the pair of lowest rank does, the leftmost of equals. Source: Sennrich et al.
// 2016, algorithm 1; ties as in Hugging Face tokenizers and SentencePiece.

#ifndef QEFF_TOKENIZER_BPE_MERGE_H_
#define QEFF_TOKENIZER_BPE_MERGE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "qeff/util/hash_map.h"

namespace qeff {

// What two neighbours become, and the rank of that merge. A symbol is whatever
// the caller needs to know of a piece of the word: small, as there is one for
// each byte at first.
template <typename Symbol>
struct BpeCandidate {
  static constexpr uint32_t kNever = 0xFFFFFFFFu;
  uint32_t rank = kNever;
  Symbol merged = {};
};

namespace internal_bpe {

// Words up to this many symbols are searched for the best pair each time:
// faster than a queue, as nearly all words have under 20.
inline constexpr size_t kShortWord = 48;

template <typename Symbol, typename Pairs>
void MergeShort(const Pairs& pairs, std::vector<Symbol>* symbols) {
  Symbol* s = symbols->data();
  size_t n = symbols->size();
  BpeCandidate<Symbol> candidates[kShortWord];
  for (size_t i = 0; i + 1 < n; ++i) candidates[i] = pairs(s[i], s[i + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (candidates[i].rank < candidates[best].rank) best = i;
    }
    if (candidates[best].rank == BpeCandidate<Symbol>::kNever) break;
    s[best] = candidates[best].merged;
    std::copy(s + best + 2, s + n, s + best + 1);
    if (best + 2 < n) {
      std::copy(candidates + best + 2, candidates + n - 1,
                candidates + best + 1);
    }
    --n;
    if (best + 1 < n) candidates[best] = pairs(s[best], s[best + 1]);
    if (best > 0) candidates[best - 1] = pairs(s[best - 1], s[best]);
  }
  symbols->resize(n);
}

// Positions that wait with one rank. Nearly all arrive in ascending order and
// cost O(1); the others go through a heap.
class PositionQueue {
 public:
  bool empty() const { return run_.empty() && heap_.empty(); }

  void Push(uint32_t position) {
    if (run_.empty() || run_.back() <= position) {
      run_.push_back(position);
    } else {
      heap_.push_back(position);
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    }
  }

  uint32_t PopLeast() {
    const bool from_run =
        heap_.empty() || (!run_.empty() && run_[next_] <= heap_.front());
    if (from_run) {
      const uint32_t position = run_[next_++];
      if (next_ == run_.size()) ReleaseRun();
      return position;
    }
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const uint32_t position = heap_.back();
    heap_.pop_back();
    return position;
  }

 private:
  // Large runs give their memory to the next rank's.
  void ReleaseRun() {
    constexpr size_t kLargeRun = 4096;
    if (run_.capacity() > kLargeRun) {
      std::vector<uint32_t>().swap(run_);
    } else {
      run_.clear();
    }
    next_ = 0;
  }

  std::vector<uint32_t> run_;
  size_t next_ = 0;  // first of run_ that waits
  std::vector<uint32_t> heap_;
};

// All waiting pairs, by (rank, position). A heap over the ranks and a
// PositionQueue each: linear for long repetitive words, where one heap over
// all pairs would cost a factor of log n and a cache miss a step.
class PairQueue {
 public:
  void Push(uint32_t rank, uint32_t position) {
    const auto [it, is_new] =
        queue_of_rank_.try_emplace(rank, static_cast<uint32_t>(queues_.size()));
    if (is_new) queues_.emplace_back();
    PositionQueue& queue = queues_[it->second];
    if (queue.empty()) ranks_.emplace(rank, it->second);
    queue.Push(position);
  }

  // The least rank that waits; 2^32 - 1 when none does.
  uint32_t LeastRank() const {
    return ranks_.empty() ? 0xFFFFFFFFu : ranks_.top().first;
  }

  // Takes out the least position of the least rank. Precondition: there is one.
  uint32_t PopLeast() {
    PositionQueue& queue = queues_[ranks_.top().second];
    const uint32_t position = queue.PopLeast();
    if (queue.empty()) ranks_.pop();
    return position;
  }

 private:
  using RankAndQueue = std::pair<uint32_t, uint32_t>;
  HashMap<uint32_t, uint32_t> queue_of_rank_;
  std::vector<PositionQueue> queues_;
  std::priority_queue<RankAndQueue, std::vector<RankAndQueue>, std::greater<>>
      ranks_;
};

// Merges a long word, not an empty one. Its memory is what its time depends on:
// 12 bytes a symbol in links, merges are looked up again instead of being kept,
// and pairs that a merge makes are queued only when no more of its rank wait:
// most of them would be changed again by the merge to their right.
template <typename Symbol, typename Pairs>
class LongMerger {
 public:
  LongMerger(const Pairs& pairs, std::vector<Symbol>* symbols)
      : pairs_(pairs), s_(*symbols), links_(symbols->size()) {}

  void Run() {
    const uint32_t n = static_cast<uint32_t>(s_.size());
    for (uint32_t i = 0; i < n; ++i) {
      links_[i] = {i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1, kNever};
      SetRank(i);
      if (links_[i].rank != kNever) queue_.Push(links_[i].rank, i);
    }
    while (true) {
      const uint32_t least = queue_.LeastRank();
      if (least != rank_ && !merged_.empty()) {
        QueueNewPairs();
        continue;
      }
      if (least == kNever) break;
      rank_ = least;
      const uint32_t left = queue_.PopLeast();
      // Stale when the pair has changed since it was queued.
      if (links_[left].rank == rank_) Merge(left);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i != kEnd; i = links_[i].next) s_[kept++] = s_[i];
    s_.resize(kept);
  }

 private:
  static constexpr uint32_t kNever = BpeCandidate<Symbol>::kNever;
  static constexpr uint32_t kEnd = 0xFFFFFFFFu;

  struct Link {
    uint32_t previous;
    uint32_t next;
    uint32_t rank;  // of the merge with `next`
  };

  void SetRank(uint32_t left) {
    Link& link = links_[left];
    link.rank =
        link.next == kEnd ? kNever : pairs_(s_[left], s_[link.next]).rank;
  }

  // A pair that is due before or among those of the current rank.
  void QueueIfDue(uint32_t left) {
    if (links_[left].rank <= rank_) queue_.Push(links_[left].rank, left);
  }

  void Merge(uint32_t left) {
    const uint32_t right = links_[left].next;
    s_[left] = pairs_(s_[left], s_[right]).merged;
    links_[right].rank = kNever;
    links_[left].next = links_[right].next;
    if (links_[left].next != kEnd) links_[links_[left].next].previous = left;
    SetRank(left);
    QueueIfDue(left);
    const uint32_t previous = links_[left].previous;
    if (previous != kEnd) {
      SetRank(previous);
      QueueIfDue(previous);
    }
    merged_.push_back(left);
  }

  // Queues the pairs around what was merged, but for those that were due.
  void QueueNewPairs() {
    uint32_t last = kEnd;
    const auto queue = [this](uint32_t left) {
      const uint32_t rank = links_[left].rank;
      if (rank != kNever && rank > rank_) queue_.Push(rank, left);
    };
    for (const uint32_t left : merged_) {
      // Merged again, into its left neighbour, which is listed as well.
      if (IsGone(left)) continue;
      const uint32_t previous = links_[left].previous;
      if (previous != kEnd && previous != last) queue(previous);
      queue(left);
      last = left;
    }
    merged_.clear();
  }

  bool IsGone(uint32_t i) const {
    const uint32_t previous = links_[i].previous;
    return previous != kEnd && links_[previous].next != i;
  }

  const Pairs& pairs_;
  std::vector<Symbol>& s_;
  std::vector<Link> links_;
  PairQueue queue_;
  uint32_t rank_ = kNever;        // of the merges being done
  std::vector<uint32_t> merged_;  // left sides of merges of that rank
};

}  // namespace internal_bpe

// Merges `symbols`, in place; fewer than 2^32. `pairs(a, b)` is the
// BpeCandidate of two neighbours; its rank is kNever when they do not merge.
// Cost: O(n log n) calls and steps for n symbols.
template <typename Symbol, typename Pairs>
void MergeBpe(const Pairs& pairs, std::vector<Symbol>* symbols) {
  if (symbols->size() < 2) return;
  if (symbols->size() <= internal_bpe::kShortWord) {
    internal_bpe::MergeShort(pairs, symbols);
  } else {
    internal_bpe::LongMerger<Symbol, Pairs>(pairs, symbols).Run();
  }
}

}  // namespace qeff

#endif  // QEFF_TOKENIZER_BPE_MERGE_H_
