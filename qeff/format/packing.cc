// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/packing.h"

#include <algorithm>
#include <cstddef>

#include "qeff/util/check.h"

namespace qeff {
namespace {

// Where a code begins in the words of its column: bit `shift` of word `word`.
// It may reach into the next word, which counts as bits 32 to 63.
struct Position {
  int64_t word;
  int shift;
};

Position DensePosition(int bits, int64_t i) {
  return {i * bits / 32, static_cast<int>(i * bits % 32)};
}

Position SpacedPosition(int bits, int64_t i) {
  const int per_word = 32 / bits;
  return {i / per_word, static_cast<int>(i % per_word) * bits};
}

// Index of byte `byte` (0 to 7) after the start of word `word` in column `col`
// of a matrix of words.
size_t ByteIndex(int64_t word, int byte, int64_t cols, int64_t col) {
  return static_cast<size_t>(4 * ((word + byte / 4) * cols + col) + byte % 4);
}

void CheckSizes(int64_t rows, int64_t cols, int64_t words, size_t codes,
                size_t packed) {
  QEFF_CHECK(rows >= 0 && cols >= 0);
  QEFF_CHECK(codes == static_cast<size_t>(rows * cols));
  QEFF_CHECK(packed == static_cast<size_t>(4 * words * cols));
}

}  // namespace

void PackColumns(int bits, int64_t rows, int64_t cols,
                 absl::Span<const uint8_t> codes, absl::Span<uint8_t> packed) {
  CheckSizes(rows, cols, PackedWords(bits, rows), codes.size(), packed.size());
  std::fill(packed.begin(), packed.end(), uint8_t{0});
  for (int64_t r = 0; r < rows; ++r) {
    const Position at = DensePosition(bits, r);
    for (int64_t c = 0; c < cols; ++c) {
      const uint64_t code = codes[static_cast<size_t>(r * cols + c)];
      QEFF_DCHECK(code < 1u << bits);
      for (int byte = at.shift / 8; 8 * byte < at.shift + bits; ++byte) {
        packed[ByteIndex(at.word, byte, cols, c)] |=
            static_cast<uint8_t>(code << at.shift >> (8 * byte));
      }
    }
  }
}

void UnpackColumns(int bits, bool spaced, int64_t rows, int64_t cols,
                   absl::Span<const uint8_t> packed,
                   absl::Span<uint8_t> codes) {
  CheckSizes(rows, cols,
             spaced ? SpacedWords(bits, rows) : PackedWords(bits, rows),
             codes.size(), packed.size());
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  for (int64_t r = 0; r < rows; ++r) {
    const Position at =
        spaced ? SpacedPosition(bits, r) : DensePosition(bits, r);
    for (int64_t c = 0; c < cols; ++c) {
      uint64_t word = 0;
      for (int byte = at.shift / 8; 8 * byte < at.shift + bits; ++byte) {
        word |= uint64_t{packed[ByteIndex(at.word, byte, cols, c)]}
                << (8 * byte);
      }
      codes[static_cast<size_t>(r * cols + c)] =
          static_cast<uint8_t>(word >> at.shift & mask);
    }
  }
}

void PackCodes(int bits, absl::Span<const uint8_t> codes,
               absl::Span<uint8_t> packed) {
  PackColumns(bits, static_cast<int64_t>(codes.size()), 1, codes, packed);
}

void UnpackCodes(int bits, absl::Span<const uint8_t> packed,
                 absl::Span<uint8_t> codes) {
  UnpackColumns(bits, /*spaced=*/false, static_cast<int64_t>(codes.size()), 1,
                packed, codes);
}

void UnpackSpacedCodes(int bits, absl::Span<const uint8_t> packed,
                       absl::Span<uint8_t> codes) {
  UnpackColumns(bits, /*spaced=*/true, static_cast<int64_t>(codes.size()), 1,
                packed, codes);
}

}  // namespace qeff
