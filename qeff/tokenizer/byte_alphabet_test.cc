// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/byte_alphabet.h"

#include <cstdint>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(ByteAlphabetTest, KnownCharacters) {
  EXPECT_EQ(ByteToAlphabet('a'), uint32_t{'a'});
  EXPECT_EQ(ByteToAlphabet(0), 0x100u);
  EXPECT_EQ(ByteToAlphabet(' '), 0x120u);   // "Ġ"
  EXPECT_EQ(ByteToAlphabet('\n'), 0x10Au);  // "Ċ"
  EXPECT_EQ(ByteToAlphabet(0xAD), 0x143u);  // the last substitute
}

TEST(ByteAlphabetTest, IsABijection) {
  std::set<uint32_t> characters;
  for (int byte = 0; byte < 256; ++byte) {
    characters.insert(ByteToAlphabet(static_cast<uint8_t>(byte)));
    const std::string text(1, static_cast<char>(byte));
    std::string spelled, back;
    AppendAlphabetSpelling(text, &spelled);
    EXPECT_TRUE(AppendAlphabetBytes(spelled, &back));
    EXPECT_EQ(back, text);
  }
  EXPECT_EQ(characters.size(), 256u);
}

TEST(ByteAlphabetTest, OtherCharactersAreRefused) {
  std::string out = "x";
  for (const char* text : {" ", "a b", "\xC2\xAD", "\xC5\x84", "\xFF"}) {
    EXPECT_FALSE(AppendAlphabetBytes(text, &out)) << text;
    EXPECT_EQ(out, "x");
  }
}

}  // namespace
}  // namespace qeff
