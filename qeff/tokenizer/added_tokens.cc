// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/added_tokens.h"

#include "qeff/tokenizer/utf8.h"

namespace qeff {

void AddedTokenMatcher::Add(absl::string_view spelling,
                            const AddedToken& token) {
  const uint32_t known = trie_.Descend(ByteTrie::kRoot, spelling);
  if (known != ByteTrie::kNoNode && trie_.Value(known) >= 0) return;
  trie_.Insert(spelling, static_cast<int32_t>(tokens_.size()));
  tokens_.push_back({token.id, token.single_word, token.lstrip, token.rstrip});
  first_bytes_[static_cast<uint8_t>(spelling[0])] = true;
}

// The next place where a token may begin.
size_t AddedTokenMatcher::NextCandidate(absl::string_view text,
                                        size_t begin) const {
  while (begin < text.size() &&
         !first_bytes_[static_cast<uint8_t>(text[begin])]) {
    ++begin;
  }
  return begin;
}

// Whether no word character touches [begin, end).
bool AddedTokenMatcher::StandsAlone(absl::string_view text, size_t begin,
                                    size_t end) const {
  const auto is_word = [this](CodePoint c) {
    return (unicode_->Properties(c.value) & kUnicodeWord) != 0;
  };
  return (begin == 0 || !is_word(DecodeLastUtf8(text.substr(0, begin)))) &&
         (end == text.size() || !is_word(DecodeUtf8(text, end)));
}

// Where the white space that ends at `end` begins, not before `least`.
size_t AddedTokenMatcher::SpacesBegin(absl::string_view text, size_t least,
                                      size_t end) const {
  while (end > least) {
    const CodePoint c = DecodeLastUtf8(text.substr(least, end - least));
    if ((unicode_->Properties(c.value) & kUnicodeWhiteSpace) == 0) break;
    end -= c.length;
  }
  return end;
}

size_t AddedTokenMatcher::SpacesEnd(absl::string_view text,
                                    size_t begin) const {
  while (begin < text.size()) {
    const CodePoint c = DecodeUtf8(text, begin);
    if ((unicode_->Properties(c.value) & kUnicodeWhiteSpace) == 0) break;
    begin += c.length;
  }
  return begin;
}

std::vector<AddedTokenMatcher::Section> AddedTokenMatcher::Split(
    absl::string_view text) const {
  std::vector<Section> sections;
  size_t done = 0;  // all before is in a section
  const auto add = [&](size_t begin, size_t end, int32_t id) {
    if (begin < end) sections.push_back({begin, end, id});
  };
  for (size_t i = NextCandidate(text, 0); i < text.size();
       i = NextCandidate(text, i)) {
    const ByteTrie::Match match = trie_.Longest(text.substr(i));
    if (match.value < 0) {
      ++i;
      continue;
    }
    const Token& token = tokens_[match.value];
    size_t end = i + match.length;
    if (token.single_word && !StandsAlone(text, i, end)) {
      i = end;
      continue;
    }
    const size_t begin = token.lstrip ? SpacesBegin(text, done, i) : i;
    if (token.rstrip) end = SpacesEnd(text, end);
    add(done, begin, -1);
    add(begin, end, token.id);
    i = done = end;
  }
  add(done, text.size(), -1);
  return sections;
}

}  // namespace qeff
