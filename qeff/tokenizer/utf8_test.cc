// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/utf8.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(Utf8Test, EveryCodePointRoundTrips) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    AppendUtf8(c, &text);
    const CodePoint decoded = DecodeUtf8(text, 0);
    ASSERT_EQ(decoded.value, c);
    ASSERT_EQ(decoded.length, text.size());
    ASSERT_EQ(DecodeLastUtf8("x" + text).value, c);
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(IncompleteUtf8Suffix("x" + text.substr(0, cut)), cut) << c;
      ASSERT_EQ(DecodeUtf8(text.substr(0, cut), 0).value, kInvalidCodePoint);
    }
    ASSERT_EQ(IncompleteUtf8Suffix(text), 0u);
  }
}

TEST(Utf8Test, InvalidBytesAreOneByteLong) {
  const char* const kInvalid[] = {
      "\x80",  // continuation without a lead
      "\xC0\x80",
      "\xC1\xBF",  // overlong
      "\xE0\x9F\xBF",
      "\xF0\x8F\xBF\xBF",
      "\xED\xA0\x80",  // surrogate
      "\xF4\x90\x80\x80",
      "\xF5",
      "\xFF",  // beyond U+10FFFF
  };
  for (const char* text : kInvalid) {
    const CodePoint c = DecodeUtf8(text, 0);
    EXPECT_EQ(c.value, kInvalidCodePoint);
    EXPECT_EQ(c.length, 1u);
    EXPECT_EQ(CountUtf8(text), std::string(text).size());
    EXPECT_EQ(IncompleteUtf8Suffix(text), 0u);
  }
}

}  // namespace
}  // namespace qeff
