// SPDX-License-Identifier: Apache-2.0
//
// Element types of ggml, the library under llama.cpp, as GGUF files store
// them, and the two plain ones of its block formats, scalar. For the formats
// with blocks of 256, and for any of them by number, see ggml_codec.h; qeff's
// own integer formats are in quant_scheme.h.
//
// A block holds 32 consecutive weights of a row, little-endian:
//   Q8_0  34 bytes: F16 d, int8 q[32];          value(j) = q[j] * d
//   Q4_0  18 bytes: F16 d, uint8 n[16];         value(j) = (code(j) - 8) * d
//         code(j) = n[j] & 15 for j < 16, n[j - 16] >> 4 for the others
// Source: ggml's ggml-common.h and ggml-quants.c.

#ifndef QEFF_FORMAT_GGML_BLOCKS_H_
#define QEFF_FORMAT_GGML_BLOCKS_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {

// A type of ggml by its number in files. All of those that exist are known, so
// that any file can be listed; the number itself may come from a file.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

// What a row of a type is made of.
struct GgmlTypeTraits {
  GgmlType type;
  absl::string_view name;  // such as "Q4_0"
  uint32_t block_elems;    // a row is a whole number of blocks
  uint32_t block_bytes;
};

// The traits of `type`, or null for a number that is none of ggml's types.
const GgmlTypeTraits* FindGgmlType(GgmlType type);

// Weights of a block of Q8_0 and Q4_0, and its bytes.
inline constexpr int64_t kGgmlBlockElems = 32;
inline constexpr int64_t kQ8_0BlockBytes = 34;
inline constexpr int64_t kQ4_0BlockBytes = 18;

// Encodes a row. Of each block, with m its element of largest magnitude (the
// first of several) and d in float32:
//   Q8_0: d = |m| / 127, q = round(x * (1 / d)), halves away from zero
//   Q4_0: d = m / -8,    code = min(15, floor(x * (1 / d) + 8.5))
// d is rounded to F16 afterwards, as ggml does; codes are 0, and 8, where d is
// 0. Preconditions (checked): row.size() is a multiple of 32, and blocks has
// room for exactly as many; the values fit (not checked: FirstUnfitForGgml
// tells). The same bits on every machine, and those of ggml's reference
// quantizer. Thread-safe.
void EncodeQ8_0(absl::Span<const float> row, absl::Span<uint8_t> blocks);
void EncodeQ4_0(absl::Span<const float> row, absl::Span<uint8_t> blocks);

// Index of the first element that `type`, one of those that GgmlType names,
// cannot hold: one that is NaN or infinite, or so large that it or the scale of
// its block could become infinite in the type that it is stored in. row.size()
// when there is none.
int64_t FirstUnfitForGgml(GgmlType type, absl::Span<const float> row);

// Decodes blocks. Preconditions (checked): the sizes, as for encoding.
void DecodeQ8_0(absl::Span<const uint8_t> blocks, absl::Span<float> row);
void DecodeQ4_0(absl::Span<const uint8_t> blocks, absl::Span<float> row);

}  // namespace qeff

#endif  // QEFF_FORMAT_GGML_BLOCKS_H_
