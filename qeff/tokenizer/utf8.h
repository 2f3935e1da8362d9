// SPDX-License-Identifier: Apache-2.0
//
// UTF-8, one code point at a time, where any byte may be wrong.

#ifndef QEFF_TOKENIZER_UTF8_H_
#define QEFF_TOKENIZER_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace qeff {

// Value of a byte that does not begin a valid sequence.
inline constexpr uint32_t kInvalidCodePoint = 0xFFFFFFFFu;

struct CodePoint {
  uint32_t value;   // or kInvalidCodePoint
  uint32_t length;  // bytes; 1 for an invalid one
};

namespace internal_utf8 {
CodePoint DecodeMultibyte(const char* begin, const char* end);
}  // namespace internal_utf8

// The code point at `begin`. Surrogates, overlong forms and values beyond
// U+10FFFF are invalid. Precondition: begin < end.
inline CodePoint DecodeUtf8(const char* begin, const char* end) {
  const unsigned char byte = static_cast<unsigned char>(*begin);
  if (byte < 0x80) return {byte, 1};
  return internal_utf8::DecodeMultibyte(begin, end);
}

// The code point at `position` < text.size().
inline CodePoint DecodeUtf8(absl::string_view text, size_t position) {
  return DecodeUtf8(text.data() + position, text.data() + text.size());
}

// The last code point of `text`, which is not empty.
CodePoint DecodeLastUtf8(absl::string_view text);

// Appends a valid code point.
void AppendUtf8(uint32_t code_point, std::string* out);

// Number of code points, invalid bytes included.
size_t CountUtf8(absl::string_view text);

// Length of the longest proper prefix of a valid sequence that ends `text`:
// bytes that more bytes could complete. At most 3.
size_t IncompleteUtf8Suffix(absl::string_view text);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_UTF8_H_
