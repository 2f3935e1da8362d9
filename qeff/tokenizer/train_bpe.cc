// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/train_bpe.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/tokenizer/utf8.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kSpace[] = "\xE2\x96\x81";  // U+2581
constexpr size_t kMostCharacters = 16;     // of a piece

enum class Kind { kLetter, kDigit, kOther };

Kind KindOf(uint32_t code_point) {
  const UChar32 c = static_cast<UChar32>(code_point);
  // Marks belong to the letters that they stand on.
  if (u_isalpha(c) || (U_GET_GC_MASK(c) & U_GC_M_MASK) != 0) {
    return Kind::kLetter;
  }
  return u_isdigit(c) ? Kind::kDigit : Kind::kOther;
}

bool IsLineEnd(uint32_t code_point) {
  return code_point == '\n' || code_point == '\r';
}

class WordSplitter {
 public:
  explicit WordSplitter(WordCounts* words) : words_(*words) {}

  void Add(absl::string_view text) {
    for (size_t at = 0; at < text.size();) {
      const CodePoint point = DecodeUtf8(text, at);
      Take(point, text.substr(at, point.length));
      at += point.length;
    }
    End();
  }

 private:
  void Take(CodePoint point, absl::string_view bytes) {
    if (point.value == kInvalidCodePoint || IsLineEnd(point.value)) {
      End();
      begins_line_ = begins_line_ || point.value != kInvalidCodePoint;
      return;
    }
    if (begins_line_) {
      word_ = kSpace;
      begins_line_ = false;
    }
    if (point.value == ' ') {
      End();
      word_ = kSpace;
      return;
    }
    const Kind kind = KindOf(point.value);
    if (!word_.empty() && word_ != kSpace && kind != kind_) End();
    absl::StrAppend(&word_, bytes);
    kind_ = kind;
  }

  void End() {
    if (!word_.empty()) ++words_[word_];
    word_.clear();
  }

  WordCounts& words_;
  std::string word_;
  Kind kind_ = Kind::kOther;
  bool begins_line_ = true;
};

// A word, and the symbols that it consists of so far.
struct Word {
  std::vector<int32_t> symbols;
  int64_t count;
};

using Pair = std::pair<int32_t, int32_t>;

class Trainer {
 public:
  explicit Trainer(const WordCounts& counts) {
    // In an order that does not depend on the hash.
    std::vector<std::pair<std::string, int64_t>> sorted(counts.begin(),
                                                        counts.end());
    std::sort(sorted.begin(), sorted.end());
    for (const auto& word : sorted) AddCharacters(word.first, word.second);
    words_text_ = std::move(sorted);
  }

  absl::StatusOr<BpePieces> Train(int64_t size) {
    if (words_text_.empty()) {
      return InvalidInputError("expected text with words, found none");
    }
    KeepFrequentCharacters();
    const int64_t characters = static_cast<int64_t>(pieces_.characters.size());
    if (characters > size) {
      return InvalidInputError("the text has ", characters,
                               " different characters, expected at most the ",
                               size,
                               " pieces that the vocabulary has room for");
    }
    for (const auto& word : words_text_) AddWord(word.first, word.second);
    const size_t merges = static_cast<size_t>(size - characters);
    while (pieces_.merges.size() < merges) {
      if (!MergeMostFrequent()) {
        return InvalidInputError(
            "the text has room for ",
            characters + static_cast<int64_t>(pieces_.merges.size()),
            " pieces, expected the ", size, " that were asked for");
      }
    }
    return std::move(pieces_);
  }

 private:
  void AddCharacters(absl::string_view word, int64_t count) {
    for (size_t at = 0; at < word.size();) {
      const size_t length = DecodeUtf8(word, at).length;
      character_counts_[std::string(word.substr(at, length))] += count;
      at += length;
    }
  }

  void KeepFrequentCharacters() {
    std::vector<std::pair<int64_t, std::string>> sorted;
    int64_t total = 0;
    for (const auto& character : character_counts_) {
      sorted.emplace_back(-character.second, character.first);
      total += character.second;
    }
    std::sort(sorted.begin(), sorted.end());
    int64_t covered = 0;
    for (const auto& character : sorted) {
      if (covered >= total - total / 2000) break;
      covered -= character.first;
      symbol_ids_[character.second] = static_cast<int32_t>(symbols_.size());
      symbols_.push_back(character.second);
      pieces_.characters.push_back(character.second);
    }
  }

  // Characters that were left out end what is merged.
  void AddWord(absl::string_view text, int64_t count) {
    Word word;
    word.count = count;
    for (size_t at = 0; at < text.size();) {
      const size_t length = DecodeUtf8(text, at).length;
      const auto it = symbol_ids_.find(std::string(text.substr(at, length)));
      if (it != symbol_ids_.end()) {
        word.symbols.push_back(it->second);
      } else if (!word.symbols.empty()) {
        Keep(std::move(word));
        word = {{}, count};
      }
      at += length;
    }
    if (!word.symbols.empty()) Keep(std::move(word));
  }

  void Keep(Word word) {
    const size_t index = words_.size();
    for (size_t i = 0; i + 1 < word.symbols.size(); ++i) {
      Count({word.symbols[i], word.symbols[i + 1]}, word.count, index);
    }
    words_.push_back(std::move(word));
  }

  void Count(Pair pair, int64_t count, size_t word) {
    if (count > 0) places_[pair].push_back(word);
    int64_t& sum = counts_[pair];
    sum += count;
    // Those that became rarer are found out when they are next.
    if (count > 0) Push(pair, sum);
  }

  void Push(Pair pair, int64_t count) {
    const std::string text = Text(pair);
    if (CountUtf8(text) > kMostCharacters) return;
    queue_.emplace(count, -static_cast<int64_t>(text.size()), text, pair);
  }

  std::string Text(Pair pair) const {
    return absl::StrCat(symbols_[static_cast<size_t>(pair.first)],
                        symbols_[static_cast<size_t>(pair.second)]);
  }

  // False when no pair is left.
  bool MergeMostFrequent() {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const Pair pair = std::get<3>(best);
      const int64_t count = counts_[pair];
      if (count <= 0) continue;
      if (count != std::get<0>(best)) {
        // Old; the present one may be in the queue more than once.
        if (count < std::get<0>(best)) Push(pair, count);
        continue;
      }
      Merge(pair, std::get<2>(best));
      return true;
    }
    return false;
  }

  void Merge(Pair pair, const std::string& text) {
    const auto found = symbol_ids_.find(text);
    int32_t merged;
    if (found != symbol_ids_.end()) {
      merged = found->second;  // by another way; no new piece
    } else {
      merged = static_cast<int32_t>(symbols_.size());
      symbol_ids_[text] = merged;
      symbols_.push_back(text);
      pieces_.merges.push_back(text);
    }
    std::vector<size_t> places = std::move(places_[pair]);
    std::sort(places.begin(), places.end());
    places.erase(std::unique(places.begin(), places.end()), places.end());
    for (const size_t place : places) MergeIn(place, pair, merged);
    counts_[pair] = 0;
  }

  void MergeIn(size_t index, Pair pair, int32_t merged) {
    Word& word = words_[index];
    std::vector<int32_t>& symbols = word.symbols;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (symbols[i] != pair.first || symbols[i + 1] != pair.second) continue;
      if (i > 0) {
        Count({symbols[i - 1], pair.first}, -word.count, index);
        Count({symbols[i - 1], merged}, word.count, index);
      }
      if (i + 2 < symbols.size()) {
        Count({pair.second, symbols[i + 2]}, -word.count, index);
        Count({merged, symbols[i + 2]}, word.count, index);
      }
      symbols[i] = merged;
      symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(i) + 1);
    }
  }

  // The largest is next.
  using Candidate = std::tuple<int64_t, int64_t, std::string, Pair>;
  struct Later {
    bool operator()(const Candidate& a, const Candidate& b) const {
      if (std::get<0>(a) != std::get<0>(b))
        return std::get<0>(a) < std::get<0>(b);
      if (std::get<1>(a) != std::get<1>(b))
        return std::get<1>(a) < std::get<1>(b);
      if (std::get<2>(a) != std::get<2>(b))
        return std::get<2>(a) > std::get<2>(b);
      return std::get<3>(a) > std::get<3>(b);
    }
  };

  std::vector<std::pair<std::string, int64_t>> words_text_;
  HashMap<std::string, int64_t> character_counts_;
  BpePieces pieces_;
  std::vector<std::string> symbols_;
  HashMap<std::string, int32_t> symbol_ids_;
  std::vector<Word> words_;
  HashMap<Pair, int64_t> counts_;
  HashMap<Pair, std::vector<size_t>> places_;  // words, some old
  std::priority_queue<Candidate, std::vector<Candidate>, Later> queue_;
};

}  // namespace

void AddWords(absl::string_view text, WordCounts* words) {
  WordSplitter(words).Add(text);
}

absl::StatusOr<BpePieces> TrainBpe(const WordCounts& words, int64_t size) {
  return Trainer(words).Train(size);
}

}  // namespace qeff
