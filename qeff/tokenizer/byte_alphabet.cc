// SPDX-License-Identifier: Apache-2.0

#include "qeff/tokenizer/byte_alphabet.h"

#include <array>

#include "qeff/tokenizer/utf8.h"

namespace qeff {
namespace {

constexpr uint32_t kFirstSubstitute = 0x100;
constexpr uint32_t kSubstitutes = 68;

constexpr bool StandsForItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         byte >= 0xAE;
}

struct Alphabet {
  std::array<uint16_t, 256> of_byte;
  std::array<uint8_t, kSubstitutes> of_substitute;
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet = {};
  uint32_t next = 0;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    if (StandsForItself(byte)) {
      alphabet.of_byte[byte] = static_cast<uint16_t>(byte);
    } else {
      alphabet.of_substitute[next] = static_cast<uint8_t>(byte);
      alphabet.of_byte[byte] = static_cast<uint16_t>(kFirstSubstitute + next++);
    }
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

uint32_t ByteToAlphabet(uint8_t byte) { return kAlphabet.of_byte[byte]; }

bool AppendAlphabetBytes(absl::string_view spelled, std::string* out) {
  const size_t old_size = out->size();
  for (size_t i = 0; i < spelled.size();) {
    const CodePoint c = DecodeUtf8(spelled, i);
    i += c.length;
    if (c.value < 256 && StandsForItself(c.value)) {
      out->push_back(static_cast<char>(c.value));
    } else if (c.value - kFirstSubstitute < kSubstitutes) {
      out->push_back(static_cast<char>(
          kAlphabet.of_substitute[c.value - kFirstSubstitute]));
    } else {
      out->resize(old_size);
      return false;
    }
  }
  return true;
}

void AppendAlphabetSpelling(absl::string_view bytes, std::string* out) {
  for (const char byte : bytes) {
    AppendUtf8(ByteToAlphabet(static_cast<uint8_t>(byte)), out);
  }
}

}  // namespace qeff
