// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/pattern_scanner.h"

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

struct KnownPattern {
  const char* regex;
  SplitPattern pattern;
};

constexpr KnownPattern kKnownPatterns[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     SplitPattern::kGpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     SplitPattern::kLlama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     SplitPattern::kQwen2},
};

constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

// Classes of a character, from its properties.
bool IsLetter(uint16_t p) { return (p & kUnicodeLetter) != 0; }
bool IsNumber(uint16_t p) { return (p & kUnicodeNumber) != 0; }
bool IsSpace(uint16_t p) { return (p & kUnicodeWhiteSpace) != 0; }
bool IsOther(uint16_t p) {
  return (p & (kUnicodeLetter | kUnicodeNumber | kUnicodeWhiteSpace)) == 0;
}

bool IsNewline(char c) { return c == '\r' || c == '\n'; }

// The letter that a case-insensitive expression takes this for. U+017F (long
// s) is the only character outside ASCII that folds to one of those asked for.
char Fold(char c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; }

// Length of 's 't 're 've 'm 'll 'd at `begin`, or 0.
size_t Contraction(absl::string_view text, size_t begin, bool ignore_case) {
  const absl::string_view rest = text.substr(begin);
  if (rest.size() < 2 || rest[0] != '\'') return 0;
  if (ignore_case && rest.size() >= 3 && rest.substr(1, 2) == "\xC5\xBF") {
    return 3;
  }
  const char first = ignore_case ? Fold(rest[1]) : rest[1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (rest.size() < 3) return 0;
  const char second = ignore_case ? Fold(rest[2]) : rest[2];
  const bool matches = (first == 'r' && second == 'e') ||
                       (first == 'v' && second == 'e') ||
                       (first == 'l' && second == 'l');
  return matches ? 3 : 0;
}

}  // namespace

absl::optional<SplitPattern> FindSplitPattern(absl::string_view regex) {
  for (const KnownPattern& known : kKnownPatterns) {
    if (regex == known.regex) return known.pattern;
  }
  return absl::nullopt;
}

std::string SupportedSplitPatterns() {
  std::string list;
  for (const KnownPattern& known : kKnownPatterns) {
    absl::StrAppend(&list, list.empty() ? "" : "  ", known.regex);
  }
  return list;
}

struct PatternScanner::Char {
  uint16_t properties;
  size_t end;
};

PatternScanner::Char PatternScanner::At(absl::string_view text,
                                        size_t position) const {
  const CodePoint c = DecodeUtf8(text, position);
  return {tables_->Properties(c.value), position + c.length};
}

// End of the longest run of at most `limit` members that begins at `begin`.
size_t PatternScanner::RunEnd(absl::string_view text, size_t begin,
                              bool (*member)(uint16_t), size_t limit) const {
  size_t end = begin;
  for (; limit > 0 && end < text.size(); --limit) {
    const Char c = At(text, end);
    if (!member(c.properties)) break;
    end = c.end;
  }
  return end;
}

// \s*[\r\n]+|\s+(?!\S)|\s+, or the last two, at a space.
size_t PatternScanner::WhiteSpaceEnd(absl::string_view text, size_t begin,
                                     bool newlines_first) const {
  size_t end = begin;
  size_t last_begin = begin;   // of the last space in the run
  size_t newline_end = begin;  // after the last \r or \n in the run
  while (end < text.size()) {
    const Char c = At(text, end);
    if (!IsSpace(c.properties)) break;
    last_begin = end;
    if (IsNewline(text[end])) newline_end = c.end;
    end = c.end;
  }
  if (newlines_first && newline_end > begin) return newline_end;
  // Before a word, the last space is left to it, unless there is but one.
  return end == text.size() || last_begin == begin ? end : last_begin;
}

size_t PatternScanner::Gpt2End(absl::string_view text, size_t begin) const {
  const size_t contraction = Contraction(text, begin, false);
  if (contraction > 0) return begin + contraction;
  // " ?" takes a space that the class after it can follow.
  const bool space = text[begin] == ' ' && begin + 1 < text.size();
  const size_t start = space ? begin + 1 : begin;
  const Char c = At(text, start);
  for (bool (*member)(uint16_t) : {IsLetter, IsNumber, IsOther}) {
    if (member(c.properties)) return RunEnd(text, c.end, member, kNoLimit);
  }
  return WhiteSpaceEnd(text, begin, /*newlines_first=*/false);
}

size_t PatternScanner::Llama3End(absl::string_view text, size_t begin,
                                 size_t max_digits) const {
  const size_t contraction = Contraction(text, begin, true);
  if (contraction > 0) return begin + contraction;
  const Char first = At(text, begin);
  if (IsLetter(first.properties)) {
    return RunEnd(text, first.end, IsLetter, kNoLimit);
  }
  if (IsNumber(first.properties)) {
    return RunEnd(text, first.end, IsNumber, max_digits - 1);
  }
  // [^\r\n\p{L}\p{N}]?\p{L}+
  if (!IsNewline(text[begin])) {
    const size_t end = RunEnd(text, first.end, IsLetter, kNoLimit);
    if (end > first.end) return end;
  }
  //  ?[^\s\p{L}\p{N}]+[\r\n]*
  const size_t start = text[begin] == ' ' ? begin + 1 : begin;
  size_t end = RunEnd(text, start, IsOther, kNoLimit);
  if (end > start) {
    while (end < text.size() && IsNewline(text[end])) ++end;
    return end;
  }
  return WhiteSpaceEnd(text, begin, /*newlines_first=*/true);
}

size_t PatternScanner::MatchEnd(absl::string_view text, size_t begin) const {
  switch (pattern_) {
    case SplitPattern::kGpt2:
      return Gpt2End(text, begin);
    case SplitPattern::kLlama3:
      return Llama3End(text, begin, 3);
    case SplitPattern::kQwen2:
      break;
  }
  return Llama3End(text, begin, 1);
}

}  // namespace qeff
