// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/sentencepiece_models.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/bpe_merge.h"
#include "qeff/tokenizer/byte_tokens.h"
#include "qeff/tokenizer/byte_trie.h"
#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

// What both models do with text that has no piece.
class UnknownText {
 public:
  explicit UnknownText(const TokenizerTables& tables)
      : tables_(tables), byte_tokens_(tables) {}

  // Appends bytes, or the unknown id unless it was the last one as well.
  void Append(absl::string_view text, bool after_unknown,
              std::vector<int32_t>* ids) const {
    if (tables_.byte_fallback && byte_tokens_.Cover(text)) {
      for (const char byte : text) ids->push_back(byte_tokens_.Find(byte));
    } else if (tables_.unk_id >= 0 && !(after_unknown && tables_.fuse_unk)) {
      ids->push_back(tables_.unk_id);
    }
  }

 private:
  const TokenizerTables& tables_;
  const ByteTokens byte_tokens_;
};

class SentencePieceBpeModel final : public WordModel {
 public:
  SentencePieceBpeModel(const TokenizerTables* tables,
                        const Vocabulary* vocabulary)
      : vocabulary_(*vocabulary), unknown_(*tables) {
    // Equal scores are equal ranks: then the leftmost pair merges first.
    std::vector<float> distinct = tables->scores;
    std::sort(distinct.begin(), distinct.end(), std::greater<>());
    distinct.erase(std::unique(distinct.begin(), distinct.end()),
                   distinct.end());
    for (const float score : tables->scores) {
      ranks_.push_back(static_cast<uint32_t>(
          std::lower_bound(distinct.begin(), distinct.end(), score,
                           std::greater<>()) -
          distinct.begin()));
    }
    for (size_t id = 0; id < tables->tokens.size(); ++id) {
      if (tables->kinds[id] == TokenKind::kUserDefined) {
        user_defined_.Insert(tables->tokens[id], static_cast<int32_t>(id));
      }
    }
  }

  void Encode(absl::string_view word, WordScratch* scratch,
              std::vector<int32_t>* ids) const override {
    std::vector<Piece>& pieces = scratch->pieces;
    Split(word, &pieces);
    MergeBpe(
        [this, word](const Piece& left, const Piece& right) {
          return Candidate(word, left, right);
        },
        &pieces);
    bool after_unknown = false;
    for (const Piece& part : pieces) {
      const absl::string_view piece = word.substr(part.begin, part.length);
      const int32_t id = vocabulary_.Find(piece);
      if (id >= 0) {
        ids->push_back(id);
      } else {
        unknown_.Append(piece, after_unknown, ids);
      }
      after_unknown = id < 0;
    }
  }

 private:
  using Piece = WordScratch::Piece;

  void Split(absl::string_view word, std::vector<Piece>* pieces) const {
    pieces->clear();
    uint32_t length;
    for (uint32_t i = 0; i < word.size(); i += length) {
      ByteTrie::Match match = {-1, 0};
      if (!user_defined_.empty()) match = user_defined_.Longest(word.substr(i));
      const bool frozen = match.value >= 0;
      length = frozen ? static_cast<uint32_t>(match.length)
                      : DecodeUtf8(word, i).length;
      pieces->push_back({i, length, frozen});
    }
  }

  BpeCandidate<Piece> Candidate(absl::string_view word, const Piece& left,
                                const Piece& right) const {
    const size_t length = size_t{left.length} + right.length;
    if (left.frozen || right.frozen || length > vocabulary_.longest_bytes()) {
      return {};
    }
    const int32_t id = vocabulary_.Find(word.substr(left.begin, length));
    if (id < 0) return {};
    return {ranks_[id],
            {left.begin, static_cast<uint32_t>(length), /*frozen=*/false}};
  }

  const Vocabulary& vocabulary_;
  const UnknownText unknown_;
  std::vector<uint32_t> ranks_;  // by id
  ByteTrie user_defined_;
};

class UnigramModel final : public WordModel {
 public:
  explicit UnigramModel(const TokenizerTables* tables)
      : tables_(*tables), unknown_(*tables) {
    float least = std::numeric_limits<float>::max();
    greatest_score_ = std::numeric_limits<float>::lowest();
    for (size_t id = 0; id < tables->tokens.size(); ++id) {
      const TokenKind kind = tables->kinds[id];
      if (kind == TokenKind::kNormal) {
        least = std::min(least, tables->scores[id]);
        greatest_score_ = std::max(greatest_score_, tables->scores[id]);
      }
      if (kind == TokenKind::kNormal || kind == TokenKind::kUserDefined) {
        pieces_.Insert(tables->tokens[id], static_cast<int32_t>(id));
      }
    }
    constexpr float kUnknownPenalty = 10.0f;
    unknown_score_ = least - kUnknownPenalty;
  }

  void Encode(absl::string_view word, WordScratch*,
              std::vector<int32_t>* ids) const override {
    const std::vector<Node> nodes = BestPaths(word);
    std::vector<std::pair<uint32_t, uint32_t>> path;  // begin, end
    for (uint32_t end = static_cast<uint32_t>(word.size()); end > 0;) {
      path.emplace_back(nodes[end].begin, end);
      end = nodes[end].begin;
    }
    bool after_unknown = false;
    for (auto it = path.rbegin(); it != path.rend(); ++it) {
      const auto [begin, end] = *it;
      const int32_t id = nodes[end].id;
      if (id >= 0) {
        ids->push_back(id);
      } else {
        unknown_.Append(word.substr(begin, end - begin), after_unknown, ids);
      }
      after_unknown = id < 0;
    }
  }

 private:
  // The best path to a place in the word.
  struct Node {
    float score = 0.0f;
    uint32_t begin = kNowhere;  // of its last piece
    int32_t id = -1;            // of its last piece; -1: unknown
  };
  static constexpr uint32_t kNowhere = 0xFFFFFFFFu;

  static void Offer(double score, uint32_t begin, int32_t id, Node* node) {
    if (node->begin != kNowhere && !(score > node->score)) return;
    node->score = static_cast<float>(score);
    node->begin = begin;
    node->id = id;
  }

  // Sums in double and keeps in float, as libsentencepiece does: ties fall the
  // same way.
  std::vector<Node> BestPaths(absl::string_view word) const {
    std::vector<Node> nodes(word.size() + 1);
    uint32_t length;
    for (uint32_t begin = 0; begin < word.size(); begin += length) {
      length = DecodeUtf8(word, begin).length;
      const float so_far = nodes[begin].score;
      bool has_character = false;
      uint32_t trie_node = ByteTrie::kRoot;
      for (size_t i = begin; i < word.size(); ++i) {
        trie_node = pieces_.Child(trie_node, word[i]);
        if (trie_node == ByteTrie::kNoNode) break;
        const int32_t id = pieces_.Value(trie_node);
        if (id < 0) continue;
        const size_t bytes = i + 1 - begin;
        Offer(Score(id, bytes) + so_far, begin, id, &nodes[i + 1]);
        has_character = has_character || bytes == length;
      }
      if (!has_character) {
        Offer(unknown_score_ + so_far, begin, -1, &nodes[begin + length]);
      }
    }
    return nodes;
  }

  // A user-defined piece is worth more than any other path over its bytes.
  double Score(int32_t id, size_t bytes) const {
    if (tables_.kinds[id] == TokenKind::kUserDefined) {
      return static_cast<float>(bytes) * greatest_score_ - 0.1;
    }
    return tables_.scores[id];
  }

  const TokenizerTables& tables_;
  const UnknownText unknown_;
  ByteTrie pieces_;
  float greatest_score_;
  float unknown_score_;
};

}  // namespace

std::unique_ptr<const WordModel> MakeSentencePieceBpeModel(
    const TokenizerTables* tables, const Vocabulary* vocabulary) {
  return std::make_unique<SentencePieceBpeModel>(tables, vocabulary);
}

std::unique_ptr<const WordModel> MakeUnigramModel(
    const TokenizerTables* tables) {
  return std::make_unique<UnigramModel>(tables);
}

}  // namespace qeff
