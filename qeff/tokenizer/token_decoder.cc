// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/token_decoder.h"

#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "qeff/tokenizer/byte_tokens.h"
#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

using TokenOp = DecoderTables::TokenOp;

constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Undoes the spaces that splitting English at punctuation leaves.
std::string Cleanup(std::string text) {
  constexpr std::pair<absl::string_view, absl::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& rule : kRules) {
    text = absl::StrReplaceAll(text, {rule});
  }
  return text;
}

std::string Strip(const TokenOp& op, absl::string_view token) {
  for (uint32_t i = 0; i < op.start; ++i) {
    if (!absl::ConsumePrefix(&token, op.content)) break;
  }
  for (uint32_t i = 0; i < op.stop; ++i) {
    if (!absl::ConsumeSuffix(&token, op.content)) break;
  }
  return std::string(token);
}

std::string ApplyTokenOp(const TokenOp& op, absl::string_view token,
                         bool first) {
  switch (op.kind) {
    case TokenOp::Kind::kReplace:
      return absl::StrReplaceAll(token, {{op.pattern, op.content}});
    case TokenOp::Kind::kStrip:
      return Strip(op, token);
    case TokenOp::Kind::kMetaspace: {
      const bool drop = first && op.start != 0;
      return absl::StrReplaceAll(token, {{op.pattern, drop ? "" : " "}});
    }
    case TokenOp::Kind::kWordPiece:
      if (first) break;
      if (absl::ConsumePrefix(&token, op.content)) break;
      return absl::StrCat(" ", token);
    case TokenOp::Kind::kCleanup:
      return Cleanup(std::string(token));
    case TokenOp::Kind::kSpaceBefore:
      if (first) break;
      return absl::StrCat(" ", token);
  }
  return std::string(token);
}

}  // namespace

TokenDecoder::TokenDecoder(const TokenizerTables* tables,
                           const StringPool* pieces)
    : tables_(tables), pieces_(pieces) {
  if (tables->decoder.bytes != DecoderTables::Bytes::kFallback) return;
  for (size_t id = 0; id < tables->tokens.size(); ++id) {
    byte_of_.push_back(static_cast<int16_t>(ByteOfToken(tables->tokens[id])));
  }
}

TokenDecoderState TokenDecoder::Begin() const {
  TokenDecoderState state;
  state.strips_left = tables_->decoder.strip_count;
  return state;
}

// Takes away what is to be stripped from the beginning of the whole text.
void TokenDecoder::Emit(absl::string_view text, TokenDecoderState* state,
                        std::string* out) const {
  if (text.empty()) return;
  while (state->strips_left > 0) {
    if (!absl::ConsumePrefix(&text, tables_->decoder.strip_text)) {
      // All that follows, even after an empty rest, is kept.
      state->strips_left = text.empty() ? state->strips_left : 0;
      break;
    }
    --state->strips_left;
  }
  out->append(text.data(), text.size());
}

void TokenDecoder::AppendByte(char byte, TokenDecoderState* state,
                              std::string* out) const {
  std::string& pending = state->pending_bytes;
  pending.push_back(byte);
  while (!pending.empty() && IncompleteUtf8Suffix(pending) != pending.size()) {
    const CodePoint c = DecodeUtf8(pending, 0);
    const bool valid = c.value != kInvalidCodePoint;
    Emit(valid ? absl::string_view(pending).substr(0, c.length)
               : kReplacementCharacter,
         state, out);
    pending.erase(0, c.length);
  }
}

std::string TokenDecoder::ApplyTokenOps(absl::string_view token,
                                        bool first) const {
  std::string text(token);
  for (const TokenOp& op : tables_->decoder.per_token) {
    text = ApplyTokenOp(op, text, first);
  }
  return text;
}

void TokenDecoder::Append(int32_t id, TokenDecoderState* state,
                          std::string* out) const {
  const bool first = std::exchange(state->first_token, false);
  if (tables_->decoder.bytes == DecoderTables::Bytes::kByteLevel) {
    Emit((*pieces_)[id], state, out);
    return;
  }
  if (!byte_of_.empty() && byte_of_[id] >= 0) {
    AppendByte(static_cast<char>(byte_of_[id]), state, out);
    return;
  }
  Finish(state, out);
  const absl::string_view token = tables_->tokens[id];
  if (tables_->decoder.per_token.empty()) {
    Emit(token, state, out);
  } else {
    Emit(ApplyTokenOps(token, first), state, out);
  }
}

void TokenDecoder::Finish(TokenDecoderState* state, std::string* out) const {
  // Bytes that began a sequence which did not come.
  for (size_t i = 0; i < state->pending_bytes.size(); ++i) {
    Emit(kReplacementCharacter, state, out);
  }
  state->pending_bytes.clear();
}

}  // namespace qeff
