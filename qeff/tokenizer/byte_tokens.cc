// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/byte_tokens.h"

#include <algorithm>

namespace qeff {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

int ByteOfToken(absl::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') {
    return -1;
  }
  const int high = HexDigit(token[3]);
  const int low = HexDigit(token[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

ByteTokens::ByteTokens(const TokenizerTables& tables) {
  ids_.fill(-1);
  for (size_t id = 0; id < tables.tokens.size(); ++id) {
    const TokenKind kind = tables.kinds[id];
    if (kind != TokenKind::kNormal && kind != TokenKind::kByte) continue;
    const int byte = ByteOfToken(tables.tokens[id]);
    if (byte >= 0) ids_[byte] = static_cast<int32_t>(id);
  }
}

bool ByteTokens::Cover(absl::string_view text) const {
  return std::all_of(text.begin(), text.end(),
                     [this](char byte) { return Find(byte) >= 0; });
}

}  // namespace qeff
