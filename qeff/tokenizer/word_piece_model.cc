// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/word_piece_model.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/byte_trie.h"
#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

class WordPieceModel final : public WordModel {
 public:
  explicit WordPieceModel(const TokenizerTables* tables) : tables_(*tables) {
    for (size_t id = 0; id < tables->tokens.size(); ++id) {
      if (tables->kinds[id] != TokenKind::kNormal) continue;
      pieces_.Insert(tables->tokens[id], static_cast<int32_t>(id));
    }
    continuing_ = pieces_.Descend(ByteTrie::kRoot, tables->continuing_prefix);
  }

  void Encode(absl::string_view word, WordScratch*,
              std::vector<int32_t>* ids) const override {
    const size_t old_size = ids->size();
    if (!TryEncode(word, ids)) {
      ids->resize(old_size);
      if (tables_.unk_id >= 0) ids->push_back(tables_.unk_id);
    }
  }

 private:
  bool TryEncode(absl::string_view word, std::vector<int32_t>* ids) const {
    if (word.size() > tables_.max_chars_per_word &&
        CountUtf8(word) > tables_.max_chars_per_word) {
      return false;
    }
    uint32_t node = ByteTrie::kRoot;
    while (!word.empty()) {
      if (node == ByteTrie::kNoNode) return false;
      const ByteTrie::Match match = pieces_.Longest(word, node);
      if (match.value < 0) return false;
      ids->push_back(match.value);
      word.remove_prefix(match.length);
      node = continuing_;
    }
    return true;
  }

  const TokenizerTables& tables_;
  ByteTrie pieces_;
  uint32_t continuing_;  // where continuing pieces begin in the trie
};

}  // namespace

std::unique_ptr<const WordModel> MakeWordPieceModel(
    const TokenizerTables* tables) {
  return std::make_unique<WordPieceModel>(tables);
}

}  // namespace qeff
