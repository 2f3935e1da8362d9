// SPDX-License-Identifier: Apache-2.0
//
// Packed rows of b-bit codes, 2 <= b <= 8. One element at a time: tests,
// small tensors and rare forms use this, qeff/kernels/quantize the rest.
//
// Dense form: bit k of element i is bit (i * b + k) of a stream of bits, least
// significant first; the stream is cut into 32-bit little-endian words and
// padded with 0. This is what compressed-tensors' pack-quantized writes for 2,
// 4 and 8 bits, its later versions for every width, and qeff always.
//
// Spaced form: floor(32 / b) elements a word, none straddling two words. Early
// compressed-tensors wrote it for 3, 5, 6 and 7 bits; it is only read. With
// 2, 4 and 8 bits the two forms are the same.
//
// Words are passed as bytes, because mapped files align nothing.

#ifndef QEFF_FORMAT_PACKING_H_
#define QEFF_FORMAT_PACKING_H_

#include <cstdint>

#include "absl/types/span.h"

namespace qeff {

// Words that `count` codes take. Precondition: count >= 0, and
// count * bits <= INT64_MAX - 31.
constexpr int64_t PackedWords(int bits, int64_t count) {
  return (count * bits + 31) / 32;
}
constexpr int64_t SpacedWords(int bits, int64_t count) {
  return (count + 32 / bits - 1) / (32 / bits);
}

// Packs `codes`, each below 2^bits, in dense form. Precondition (checked):
// packed.size() == 4 * PackedWords(bits, codes.size()).
void PackCodes(int bits, absl::Span<const uint8_t> codes,
               absl::Span<uint8_t> packed);

// The inverse of PackCodes, with the same sizes.
void UnpackCodes(int bits, absl::Span<const uint8_t> packed,
                 absl::Span<uint8_t> codes);

// Unpacks the spaced form. Precondition (checked):
// packed.size() == 4 * SpacedWords(bits, codes.size()).
void UnpackSpacedCodes(int bits, absl::Span<const uint8_t> packed,
                       absl::Span<uint8_t> codes);

// Zero points: a matrix of codes [rows, cols] whose columns are packed, to
// words [PackedWords(bits, rows), cols]. Preconditions (checked): the sizes.
void PackColumns(int bits, int64_t rows, int64_t cols,
                 absl::Span<const uint8_t> codes, absl::Span<uint8_t> packed);

// The inverse of PackColumns; with `spaced` from the spaced form, whose size
// is [SpacedWords(bits, rows), cols] words.
void UnpackColumns(int bits, bool spaced, int64_t rows, int64_t cols,
                   absl::Span<const uint8_t> packed, absl::Span<uint8_t> codes);

}  // namespace qeff

#endif  // QEFF_FORMAT_PACKING_H_
