// SPDX-License-Identifier: Apache-2.0
//
// GPT-2's alphabet: 256 printable characters that stand for the bytes, in which
// byte-level vocabularies are spelled. Source: Radford et al. 2019, encoder.py:
// printable Latin-1 stands for itself, the other 68 bytes, in order, for
// U+0100 ... U+0143.

#ifndef QEFF_TOKENIZER_BYTE_ALPHABET_H_
#define QEFF_TOKENIZER_BYTE_ALPHABET_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace qeff {

// The code point that stands for `byte`.
uint32_t ByteToAlphabet(uint8_t byte);

// Appends the bytes that `spelled` stands for. False, with `out` unchanged,
// when it holds a character that is not of the alphabet.
bool AppendAlphabetBytes(absl::string_view spelled, std::string* out);

// Appends the spelling of `bytes`.
void AppendAlphabetSpelling(absl::string_view bytes, std::string* out);

}  // namespace qeff

#endif  // QEFF_TOKENIZER_BYTE_ALPHABET_H_
