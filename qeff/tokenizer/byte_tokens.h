// SPDX-License-Identifier: Apache-2.0
//
// The tokens <0x00> ... <0xFF> of models with byte fallback.

#ifndef QEFF_TOKENIZER_BYTE_TOKENS_H_
#define QEFF_TOKENIZER_BYTE_TOKENS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// The byte that a token spelled "<0xHH>" stands for, or -1. Upper-case digits.
int ByteOfToken(absl::string_view token);

// The ids of the byte tokens in a vocabulary.
class ByteTokens {
 public:
  explicit ByteTokens(const TokenizerTables& tables);

  // The id for `byte`, or -1.
  int32_t Find(char byte) const { return ids_[static_cast<uint8_t>(byte)]; }

  // Whether every byte of `text` has a token.
  bool Cover(absl::string_view text) const;

 private:
  std::array<int32_t, 256> ids_;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_BYTE_TOKENS_H_
