// SPDX-License-Identifier: Apache-2.0
//
// The properties of Unicode that tokenizers ask for, as plain vectors, so that
// a tokenizer gives the same ids with and without a Unicode library beside it.
// Built by unicode_tables_icu.h; normal forms over them are in normal_form.h.

#ifndef QEFF_TOKENIZER_UNICODE_TABLES_H_
#define QEFF_TOKENIZER_UNICODE_TABLES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace qeff {

// Bits of UnicodeTables::Properties.
enum UnicodeProperty : uint16_t {
  kUnicodeLetter = 1 << 0,          // \p{L}
  kUnicodeNumber = 1 << 1,          // \p{N}
  kUnicodeWhiteSpace = 1 << 2,      // White_Space
  kUnicodeMark = 1 << 3,            // \p{M}
  kUnicodeNonspacingMark = 1 << 4,  // \p{Mn}
  kUnicodePunctuation = 1 << 5,     // \p{P} and ASCII's symbols
  kUnicodeControl = 1 << 6,         // Cc, Cf, Co, Cs
  kUnicodeWord = 1 << 7,            // \w: Alphabetic, M, Nd, Pc, ZWJ
  // Never changes, nor combines with a neighbour, in the normal form.
  kUnicodeNfcInert = 1 << 8,
  kUnicodeNfdInert = 1 << 9,
  kUnicodeNfkcInert = 1 << 10,
  kUnicodeNfkdInert = 1 << 11,
};

// A map from code points to sequences of code points.
struct UnicodeMapping {
  std::vector<uint32_t> keys;    // ascending
  std::vector<uint32_t> ends;    // ends[i]: end of the value of keys[i]
  std::vector<uint32_t> values;  // all values, one after the other

  // The value of `code_point`; empty when it has none.
  absl::Span<const uint32_t> Find(uint32_t code_point) const;
};

struct UnicodeTables {
  // Properties in blocks of 256 code points.
  std::vector<uint16_t> block_of;    // 0x1100 numbers of blocks
  std::vector<uint16_t> properties;  // 256 for each block

  std::vector<uint32_t> combining;  // code points with a class, ascending
  std::vector<uint8_t> combining_classes;
  UnicodeMapping canonical;      // full decompositions, without Hangul
  UnicodeMapping compatibility;  // where they differ from `canonical`
  UnicodeMapping lowercase;
  std::vector<uint64_t> pairs;  // first << 32 | second, ascending
  std::vector<uint32_t> composed;

  // Whether every index is in range, for tables that came from a file.
  bool Valid() const;

  // Properties of a code point; 0 beyond U+10FFFF. Precondition: Valid().
  uint16_t Properties(uint32_t code_point) const {
    if (code_point > 0x10FFFF) return 0;
    return properties[block_of[code_point >> 8] * 256u + (code_point & 255)];
  }
  uint8_t CombiningClass(uint32_t code_point) const;
  // The composition of two code points, or 0.
  uint32_t Compose(uint32_t first, uint32_t second) const;
};

}  // namespace qeff

#endif  // QEFF_TOKENIZER_UNICODE_TABLES_H_
