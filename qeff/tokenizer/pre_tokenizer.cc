// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

// A part of a word: a match of the operation's pattern, or what lies between.
struct Part {
  size_t begin;
  size_t end;
  bool match;
};

// Appends a part that continues the last one if `join` and of the same sort.
void Add(size_t begin, size_t end, bool match, bool join,
         std::vector<Part>* parts) {
  if (begin == end) return;
  if (join && !parts->empty() && parts->back().match == match) {
    parts->back().end = end;
  } else {
    parts->push_back({begin, end, match});
  }
}

// Parts of `word` by the properties of its characters. `is_match` characters
// are one match each, or with `join` one for each run.
template <typename IsMatch>
std::vector<Part> PartsByProperty(const UnicodeTables& unicode,
                                  absl::string_view word, bool join,
                                  const IsMatch& is_match) {
  std::vector<Part> parts;
  for (size_t i = 0; i < word.size();) {
    const CodePoint c = DecodeUtf8(word, i);
    const bool match = is_match(unicode.Properties(c.value));
    Add(i, i + c.length, match, join || !match, &parts);
    i += c.length;
  }
  return parts;
}

std::vector<Part> PartsByString(absl::string_view word,
                                absl::string_view separator) {
  std::vector<Part> parts;
  size_t begin = 0;
  while (begin < word.size()) {
    const size_t found = word.find(separator, begin);
    const size_t end = std::min(found, word.size());
    Add(begin, end, false, false, &parts);
    if (found == absl::string_view::npos) break;
    Add(end, end + separator.size(), true, false, &parts);
    begin = end + separator.size();
  }
  return parts;
}

std::vector<Part> PartsByPattern(const UnicodeTables& unicode,
                                 absl::string_view word, SplitPattern pattern) {
  const PatternScanner scanner(&unicode, pattern);
  std::vector<Part> parts;
  for (size_t begin = 0; begin < word.size();) {
    const size_t end = scanner.MatchEnd(word, begin);
    Add(begin, end, true, false, &parts);
    begin = end;
  }
  return parts;
}

bool IsWhiteSpace(uint16_t p) { return (p & kUnicodeWhiteSpace) != 0; }
bool IsPunctuation(uint16_t p) { return (p & kUnicodePunctuation) != 0; }
bool IsNumber(uint16_t p) { return (p & kUnicodeNumber) != 0; }

// \w+|[^\w\s]+: runs of word characters and runs of what is neither.
std::vector<Part> WhitespaceParts(const UnicodeTables& unicode,
                                  absl::string_view word) {
  std::vector<Part> parts;
  for (const Part& run : PartsByProperty(unicode, word, true, [](uint16_t p) {
         return IsWhiteSpace(p) && (p & kUnicodeWord) == 0;
       })) {
    if (run.match) {
      parts.push_back(run);
      continue;
    }
    const absl::string_view text = word.substr(run.begin, run.end - run.begin);
    for (const Part& part :
         PartsByProperty(unicode, text, true,
                         [](uint16_t p) { return (p & kUnicodeWord) != 0; })) {
      parts.push_back({run.begin + part.begin, run.begin + part.end, false});
    }
  }
  return parts;
}

// BERT: white space is a match to be removed, punctuation a part of its own.
std::vector<Part> BertParts(const UnicodeTables& unicode,
                            absl::string_view word) {
  std::vector<Part> parts;
  bool after_text = false;  // the last part is a run that may go on
  for (size_t i = 0; i < word.size();) {
    const CodePoint c = DecodeUtf8(word, i);
    const uint16_t p = unicode.Properties(c.value);
    const bool text = !IsWhiteSpace(p) && !IsPunctuation(p);
    if (text && after_text) {
      parts.back().end = i + c.length;
    } else {
      parts.push_back({i, i + c.length, IsWhiteSpace(p)});
    }
    after_text = text;
    i += c.length;
  }
  return parts;
}

// Joins and drops parts as `behavior` says.
std::vector<Part> Arrange(std::vector<Part> parts, SplitBehavior behavior,
                          bool invert) {
  if (invert) {
    for (Part& part : parts) part.match = !part.match;
  }
  std::vector<Part> arranged;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return parts;
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.match) arranged.push_back(part);
      }
      return arranged;
    case SplitBehavior::kContiguous:
      for (const Part& part : parts) {
        Add(part.begin, part.end, part.match, true, &arranged);
      }
      return arranged;
    case SplitBehavior::kMergedWithPrevious: {
      bool after_match = false;
      for (const Part& part : parts) {
        if (part.match && !after_match && !arranged.empty()) {
          arranged.back().end = part.end;
        } else {
          arranged.push_back(part);
        }
        after_match = part.match;
      }
      return arranged;
    }
    case SplitBehavior::kMergedWithNext:
      break;
  }
  bool before_match = false;
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) {
    if (it->match && !before_match && !arranged.empty()) {
      arranged.back().begin = it->begin;
    } else {
      arranged.push_back(*it);
    }
    before_match = it->match;
  }
  std::reverse(arranged.begin(), arranged.end());
  return arranged;
}

std::vector<Part> SplitWord(const UnicodeTables& unicode,
                            const PreTokenizerOp& op, absl::string_view word) {
  using Kind = PreTokenizerOp::Kind;
  switch (op.kind) {
    case Kind::kPattern:
      return Arrange(PartsByPattern(unicode, word, op.pattern), op.behavior,
                     op.invert);
    case Kind::kString:
      return Arrange(PartsByString(word, op.content), op.behavior, op.invert);
    case Kind::kBert:
      return Arrange(BertParts(unicode, word), SplitBehavior::kRemoved, false);
    case Kind::kWhitespace:
      return Arrange(WhitespaceParts(unicode, word), SplitBehavior::kRemoved,
                     false);
    case Kind::kWhitespaceSplit:
      return Arrange(PartsByProperty(unicode, word, true, IsWhiteSpace),
                     SplitBehavior::kRemoved, false);
    case Kind::kDigits:
      return PartsByProperty(unicode, word, !op.individual, IsNumber);
    case Kind::kPunctuation:
      return Arrange(PartsByProperty(unicode, word, false, IsPunctuation),
                     op.behavior, false);
    case Kind::kMetaspace:
      if (!op.split) break;
      return Arrange(PartsByString(word, op.content),
                     SplitBehavior::kMergedWithNext, false);
    case Kind::kAddPrefixSpace:
      break;
  }
  return {{0, word.size(), false}};
}

// What an operation that changes the text makes of `word`.
std::string Rewrite(const PreTokenizerOp& op, absl::string_view word,
                    bool at_begin) {
  if (op.kind == PreTokenizerOp::Kind::kAddPrefixSpace) {
    return absl::StrCat(absl::StartsWith(word, " ") ? "" : " ", word);
  }
  std::string text = absl::StrReplaceAll(word, {{" ", op.content}});
  const bool prepend =
      op.prepend == PreTokenizerOp::Prepend::kAlways ||
      (op.prepend == PreTokenizerOp::Prepend::kFirst && at_begin);
  if (prepend && !absl::StartsWith(text, op.content)) {
    text.insert(0, op.content);
  }
  return text;
}

}  // namespace

StringPool PreTokenizer::Split(absl::string_view text, bool at_begin) const {
  StringPool words;
  words.push_back(text);
  for (const PreTokenizerOp& op : tables_->pre_tokenizer) {
    const bool rewrites = op.kind == PreTokenizerOp::Kind::kMetaspace ||
                          op.kind == PreTokenizerOp::Kind::kAddPrefixSpace;
    StringPool parts;
    for (size_t i = 0; i < words.size(); ++i) {
      absl::string_view word = words[i];
      std::string rewritten;
      if (rewrites) {
        rewritten = Rewrite(op, word, at_begin && i == 0);
        word = rewritten;
      }
      for (const Part& part : SplitWord(tables_->unicode, op, word)) {
        parts.push_back(word.substr(part.begin, part.end - part.begin));
      }
    }
    words = std::move(parts);
  }
  return words;
}

}  // namespace qeff
