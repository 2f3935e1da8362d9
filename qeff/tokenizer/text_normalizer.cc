// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/text_normalizer.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "qeff/tokenizer/darts.h"
#include "qeff/tokenizer/normal_form.h"
#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

constexpr absl::string_view kMetaspace = "\xE2\x96\x81";             // U+2581
constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Calls `visit(code point, its bytes)` for each character.
template <typename Visit>
void ForEachCharacter(absl::string_view text, const Visit& visit) {
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeUtf8(text, i);
    visit(c.value, text.substr(i, c.length));
    i += c.length;
  }
}

std::string Lowercase(const UnicodeTables& unicode, absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  ForEachCharacter(text, [&](uint32_t c, absl::string_view bytes) {
    if (c < 0x80) {
      out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32)
                                         : static_cast<char>(c));
      return;
    }
    const absl::Span<const uint32_t> lower = unicode.lowercase.Find(c);
    if (lower.empty()) absl::StrAppend(&out, bytes);
    for (const uint32_t part : lower) AppendUtf8(part, &out);
  });
  return out;
}

std::string RemoveProperty(const UnicodeTables& unicode, uint16_t property,
                           absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  ForEachCharacter(text, [&](uint32_t c, absl::string_view bytes) {
    if ((unicode.Properties(c) & property) == 0) absl::StrAppend(&out, bytes);
  });
  return out;
}

// Source: BERT, tokenization.py, _clean_text.
std::string CleanText(const UnicodeTables& unicode, absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  ForEachCharacter(text, [&](uint32_t c, absl::string_view bytes) {
    const uint16_t properties = unicode.Properties(c);
    const bool space = c == '\t' || c == '\n' || c == '\r' ||
                       (properties & kUnicodeWhiteSpace) != 0;
    const bool control = c != '\t' && c != '\n' && c != '\r' &&
                         (properties & kUnicodeControl) != 0;
    if (c == 0 || c == 0xFFFD || c == kInvalidCodePoint || control) return;
    if (space) {
      out.push_back(' ');
    } else {
      absl::StrAppend(&out, bytes);
    }
  });
  return out;
}

// Source: BERT, tokenization.py, _is_chinese_char.
bool IsCjk(uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B820 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

std::string SpaceCjk(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  ForEachCharacter(text, [&](uint32_t c, absl::string_view bytes) {
    if (IsCjk(c)) {
      absl::StrAppend(&out, " ", bytes, " ");
    } else {
      absl::StrAppend(&out, bytes);
    }
  });
  return out;
}

absl::string_view StripSpaces(const UnicodeTables& unicode, bool left,
                              absl::string_view text) {
  while (!text.empty()) {
    const CodePoint c = left ? DecodeUtf8(text, 0) : DecodeLastUtf8(text);
    if ((unicode.Properties(c.value) & kUnicodeWhiteSpace) == 0) break;
    if (left) {
      text.remove_prefix(c.length);
    } else {
      text.remove_suffix(c.length);
    }
  }
  return text;
}

}  // namespace

TextNormalizer::TextNormalizer(const TokenizerTables* tables)
    : tables_(tables) {
  for (size_t id = 0; id < tables->tokens.size(); ++id) {
    if (tables->kinds[id] == TokenKind::kUserDefined) {
      user_defined_.Insert(tables->tokens[id], static_cast<int32_t>(id));
    }
  }
}

std::string TextNormalizer::Normalize(absl::string_view text) const {
  std::string result(text);
  for (const NormalizerOp& op : tables_->normalizer) {
    result = Apply(op, result);
  }
  return result;
}

std::string TextNormalizer::Apply(const NormalizerOp& op,
                                  absl::string_view text) const {
  const UnicodeTables& unicode = tables_->unicode;
  std::string out;
  switch (op.kind) {
    case NormalizerOp::Kind::kNfc:
      AppendNormalized(unicode, NormalForm::kNfc, text, &out);
      return out;
    case NormalizerOp::Kind::kNfd:
      AppendNormalized(unicode, NormalForm::kNfd, text, &out);
      return out;
    case NormalizerOp::Kind::kNfkc:
      AppendNormalized(unicode, NormalForm::kNfkc, text, &out);
      return out;
    case NormalizerOp::Kind::kNfkd:
      AppendNormalized(unicode, NormalForm::kNfkd, text, &out);
      return out;
    case NormalizerOp::Kind::kLowercase:
      return Lowercase(unicode, text);
    case NormalizerOp::Kind::kStripLeft:
      return std::string(StripSpaces(unicode, true, text));
    case NormalizerOp::Kind::kStripRight:
      return std::string(StripSpaces(unicode, false, text));
    case NormalizerOp::Kind::kRemoveMarks:
      return RemoveProperty(unicode, kUnicodeMark, text);
    case NormalizerOp::Kind::kRemoveNonspacingMarks:
      return RemoveProperty(unicode, kUnicodeNonspacingMark, text);
    case NormalizerOp::Kind::kCleanText:
      return CleanText(unicode, text);
    case NormalizerOp::Kind::kSpaceCjk:
      return SpaceCjk(text);
    case NormalizerOp::Kind::kPrepend:
      return text.empty() ? out : absl::StrCat(op.content, text);
    case NormalizerOp::Kind::kReplace:
      return absl::StrReplaceAll(text, {{op.pattern, op.content}});
    case NormalizerOp::Kind::kSentencePiece:
      break;
  }
  return SentencePiece(text);
}

TextNormalizer::Step TextNormalizer::SentencePieceStep(
    absl::string_view text) const {
  if (!user_defined_.empty()) {
    const ByteTrie::Match kept = user_defined_.Longest(text);
    if (kept.value >= 0) return {text.substr(0, kept.length), kept.length};
  }
  const SentencePieceNormalizer& spec = tables_->sentencepiece;
  const DartsMatch match = LongestDartsMatch(spec.trie, text);
  if (match.length > 0 && match.value < spec.replacements.size()) {
    // NUL-terminated; std::string has one at its end as well.
    const char* begin = spec.replacements.data() + match.value;
    return {absl::string_view(begin, std::strlen(begin)), match.length};
  }
  const CodePoint c = DecodeUtf8(text, 0);
  if (c.value == kInvalidCodePoint) return {kReplacementCharacter, 1};
  return {text.substr(0, c.length), c.length};
}

// Source: SentencePiece 0.1.97, normalizer.cc, Normalizer::Normalize.
std::string TextNormalizer::SentencePiece(absl::string_view text) const {
  const SentencePieceNormalizer& spec = tables_->sentencepiece;
  const absl::string_view space = spec.escape_whitespaces ? kMetaspace : " ";
  std::string out;
  if (spec.remove_extra_whitespaces) {
    while (!text.empty()) {
      const Step step = SentencePieceStep(text);
      if (step.replacement != " ") break;
      text.remove_prefix(step.consumed);
    }
  }
  if (text.empty()) return out;
  out.reserve(text.size() + text.size() / 2);
  if (spec.add_dummy_prefix && !spec.whitespace_as_suffix) {
    absl::StrAppend(&out, space);
  }
  bool after_space = spec.remove_extra_whitespaces;
  while (!text.empty()) {
    const Step step = SentencePieceStep(text);
    absl::string_view part = step.replacement;
    while (after_space && absl::ConsumePrefix(&part, " ")) {
    }
    for (const char c : part) {
      if (c == ' ') {
        absl::StrAppend(&out, space);
      } else {
        out.push_back(c);
      }
    }
    if (!part.empty()) {
      after_space = spec.remove_extra_whitespaces && absl::EndsWith(part, " ");
    }
    text.remove_prefix(step.consumed);
  }
  if (spec.remove_extra_whitespaces) {
    while (absl::EndsWith(out, space)) out.resize(out.size() - space.size());
  }
  if (spec.add_dummy_prefix && spec.whitespace_as_suffix) {
    absl::StrAppend(&out, space);
  }
  return out;
}

}  // namespace qeff
