// SPDX-License-Identifier: Apache-2.0
//
// From token ids back to text, one token at a time, so that decoding a whole
// text and streaming it are the same code.

#ifndef QEFF_TOKENIZER_TOKEN_DECODER_H_
#define QEFF_TOKENIZER_TOKEN_DECODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tokenizer/tables.h"

namespace qeff {

// What decoding has to remember between two tokens.
struct TokenDecoderState {
  bool first_token = true;
  std::string pending_bytes;  // of byte tokens, begin of a UTF-8 sequence
  uint32_t strips_left = 0;   // DecoderTables::strip_text still to take away
};

// Runs tables->decoder. Thread-safe. `tables` and `pieces` (the bytes of each
// token of a byte-level model) must outlive it.
class TokenDecoder {
 public:
  TokenDecoder(const TokenizerTables* tables, const StringPool* pieces);

  TokenDecoderState Begin() const;

  // Appends what token `id` adds to the text. Precondition: a valid id.
  void Append(int32_t id, TokenDecoderState* state, std::string* out) const;

  // Appends what is left at the end of the text.
  void Finish(TokenDecoderState* state, std::string* out) const;

 private:
  std::string ApplyTokenOps(absl::string_view token, bool first) const;
  void Emit(absl::string_view text, TokenDecoderState* state,
            std::string* out) const;
  void AppendByte(char byte, TokenDecoderState* state, std::string* out) const;

  const TokenizerTables* tables_;
  const StringPool* pieces_;
  std::vector<int16_t> byte_of_;  // by id: the byte of a byte token, or -1
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_TOKEN_DECODER_H_
