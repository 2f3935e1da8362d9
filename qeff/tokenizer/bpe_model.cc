// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/bpe_model.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/bpe_merge.h"
#include "qeff/tokenizer/byte_tokens.h"
#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

// From a pair of ids to its merge; open addressing.
class MergeTable {
 public:
  explicit MergeTable(const std::vector<BpeMerge>& merges) {
    size_t capacity = 16;
    while (capacity < 2 * merges.size()) capacity *= 2;
    slots_.assign(capacity, Slot());
    mask_ = capacity - 1;
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      Insert(merges[rank], static_cast<uint32_t>(rank));
    }
  }

  BpeCandidate<int32_t> Find(int32_t left, int32_t right) const {
    const uint64_t key = Key(left, right);
    for (size_t i = Hash(key) & mask_;; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return {slots_[i].rank, slots_[i].result};
      if (slots_[i].result < 0) return {};
    }
  }

 private:
  struct Slot {
    uint64_t key = ~uint64_t{0};
    uint32_t rank = BpeCandidate<int32_t>::kNever;
    int32_t result = -1;
  };

  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 |
           static_cast<uint32_t>(right);
  }
  static size_t Hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return static_cast<size_t>(key ^ key >> 32);
  }

  // A pair that is listed twice has the rank of its last place.
  void Insert(const BpeMerge& merge, uint32_t rank) {
    const uint64_t key = Key(merge.left, merge.right);
    size_t i = Hash(key) & mask_;
    while (slots_[i].result >= 0 && slots_[i].key != key) i = (i + 1) & mask_;
    slots_[i].key = key;
    slots_[i].rank = rank;
    slots_[i].result = merge.result;
  }

  std::vector<Slot> slots_;
  size_t mask_;
};

class BpeModel final : public WordModel {
 public:
  BpeModel(const TokenizerTables* tables, const StringPool* pieces,
           const Vocabulary* vocabulary)
      : tables_(*tables),
        vocabulary_(*vocabulary),
        merges_(tables->merges),
        byte_tokens_(*tables) {
    for (int byte = 0; byte < 256; ++byte) {
      const char text = static_cast<char>(byte);
      byte_ids_[byte] = vocabulary->Find(absl::string_view(&text, 1));
    }
    FindWholeWords(*pieces);
  }

  void Encode(absl::string_view word, WordScratch* scratch,
              std::vector<int32_t>* ids) const override {
    if (word.size() <= vocabulary_.longest_bytes()) {
      const int32_t id = vocabulary_.Find(word);
      if (id >= 0 && is_whole_word_[id]) {
        ids->push_back(id);
        return;
      }
    }
    Merge(word, scratch);
    ids->insert(ids->end(), scratch->ids.begin(), scratch->ids.end());
  }

 private:
  // Most words are one token: those that merging would give anyway are found
  // by one look-up instead.
  void FindWholeWords(const StringPool& pieces) {
    is_whole_word_.assign(pieces.size(), false);
    WordScratch scratch;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const absl::string_view piece = pieces[i];
      const int32_t id = static_cast<int32_t>(i);
      if (piece.empty() || vocabulary_.Find(piece) != id) continue;
      if (!tables_.ignore_merges) Merge(piece, &scratch);
      is_whole_word_[i] = tables_.ignore_merges ||
                          (scratch.ids.size() == 1 && scratch.ids[0] == id);
    }
  }

  void Merge(absl::string_view word, WordScratch* scratch) const {
    scratch->ids.clear();
    if (tables_.byte_level) {
      SplitBytes(word, &scratch->ids);
    } else {
      SplitCharacters(word, &scratch->ids);
    }
    MergeBpe([this](int32_t left,
                    int32_t right) { return merges_.Find(left, right); },
             &scratch->ids);
  }

  void SplitBytes(absl::string_view word, std::vector<int32_t>* ids) const {
    ids->reserve(word.size());
    for (const char byte : word) {
      ids->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    }
  }

  void SplitCharacters(absl::string_view word,
                       std::vector<int32_t>* ids) const {
    bool after_unknown = false;
    size_t length;
    for (size_t i = 0; i < word.size(); i += length) {
      length = DecodeUtf8(word, i).length;
      const absl::string_view character = word.substr(i, length);
      const int32_t id = vocabulary_.Find(character);
      if (id >= 0) {
        ids->push_back(id);
        after_unknown = false;
      } else if (tables_.byte_fallback && byte_tokens_.Cover(character)) {
        for (const char byte : character) {
          ids->push_back(byte_tokens_.Find(byte));
        }
        after_unknown = false;
      } else if (tables_.unk_id >= 0) {
        if (!after_unknown || !tables_.fuse_unk) {
          ids->push_back(tables_.unk_id);
        }
        after_unknown = true;
      }
    }
  }

  const TokenizerTables& tables_;
  const Vocabulary& vocabulary_;
  const MergeTable merges_;
  const ByteTokens byte_tokens_;
  std::array<int32_t, 256> byte_ids_;
  std::vector<bool> is_whole_word_;
};

}  // namespace

std::unique_ptr<const WordModel> MakeBpeModel(const TokenizerTables* tables,
                                              const StringPool* pieces,
                                              const Vocabulary* vocabulary) {
  return std::make_unique<BpeModel>(tables, pieces, vocabulary);
}

}  // namespace qeff
