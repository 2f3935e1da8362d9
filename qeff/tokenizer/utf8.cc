// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/utf8.h"

#include <algorithm>

namespace qeff {
namespace {

// Range of the second byte after lead byte `lead`; the third and fourth are
// always 80..BF. Source: Unicode 15, table 3-7.
struct SecondByte {
  unsigned char low;
  unsigned char high;
};

SecondByte SecondByteRange(unsigned char lead) {
  switch (lead) {
    case 0xE0:
      return {0xA0, 0xBF};
    case 0xED:
      return {0x80, 0x9F};
    case 0xF0:
      return {0x90, 0xBF};
    case 0xF4:
      return {0x80, 0x8F};
    default:
      return {0x80, 0xBF};
  }
}

// Bytes of the sequence that `lead` begins; 0 for an invalid lead byte.
size_t SequenceLength(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// How many bytes at `begin` belong to one well-formed sequence or to the
// beginning of one.
size_t WellFormedPrefix(const char* begin, const char* end) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(begin);
  const size_t length = SequenceLength(bytes[0]);
  if (length == 0) return 0;
  const size_t available = std::min(length, static_cast<size_t>(end - begin));
  for (size_t i = 1; i < available; ++i) {
    const SecondByte range =
        i == 1 ? SecondByteRange(bytes[0]) : SecondByte{0x80, 0xBF};
    if (bytes[i] < range.low || bytes[i] > range.high) return i;
  }
  return available;
}

}  // namespace

namespace internal_utf8 {

CodePoint DecodeMultibyte(const char* begin, const char* end) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(begin);
  const size_t length = SequenceLength(bytes[0]);
  if (length == 0 || WellFormedPrefix(begin, end) != length) {
    return {kInvalidCodePoint, 1};
  }
  uint32_t value = bytes[0] & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) value = value << 6 | (bytes[i] & 0x3F);
  return {value, static_cast<uint32_t>(length)};
}

}  // namespace internal_utf8

CodePoint DecodeLastUtf8(absl::string_view text) {
  const size_t longest = std::min<size_t>(4, text.size());
  for (size_t length = 2; length <= longest; ++length) {
    const CodePoint last = DecodeUtf8(text, text.size() - length);
    if (last.length == length) return last;
  }
  return DecodeUtf8(text, text.size() - 1);
}

void AppendUtf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | c >> 6));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | c >> 12));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | c >> 18));
    out->push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

size_t CountUtf8(absl::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); i += DecodeUtf8(text, i).length) ++count;
  return count;
}

size_t IncompleteUtf8Suffix(absl::string_view text) {
  const size_t longest = std::min<size_t>(3, text.size());
  for (size_t length = longest; length > 0; --length) {
    const char* begin = text.data() + text.size() - length;
    const char* end = text.data() + text.size();
    const size_t needed = SequenceLength(static_cast<unsigned char>(*begin));
    if (needed > length && WellFormedPrefix(begin, end) == length) {
      return length;
    }
  }
  return 0;
}

}  // namespace qeff
