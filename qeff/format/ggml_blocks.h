// SPDX-License-Identifier: Apache-2.0
//
// Element types of ggml, the library under llama.cpp, as GGUF files store
// them, and the plain ones of its block formats, scalar. For the formats with
// blocks of 256, and for any of them by number, see ggml_codec.h; qeff's own
// integer formats are in quant_scheme.h.
//
// A block holds 32 consecutive weights of a row, little-endian:
//   Q8_0   34 bytes: F16 d, int8 q[32];               value(j) = q[j] * d
//   Q4_0   18 bytes: F16 d, uint8 n[16];              (code(j) - 8) * d
//   Q4_1   20 bytes: F16 d, F16 m, uint8 n[16];       code(j) * d + m
//   Q5_0   22 bytes: F16 d, uint32 h, uint8 n[16];    (code(j) - 16) * d
//   Q5_1   24 bytes: F16 d, F16 m, uint32 h, uint8 n[16];  code(j) * d + m
//   MXFP4  17 bytes: E8M0 e, uint8 n[16];             e2m1(code(j)) * 2^(e-127)
// Low 4 bits of code(j): n[j] & 15 for j < 16, n[j - 16] >> 4 for the others;
// bit 4 is bit j of h. Source: ggml's ggml-common.h and ggml-quants.c; e2m1 is
// the table of mxfp4 in codebook.h.

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
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
  kMXFP4 = 39,
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

// Weights of a block of these, and its bytes.
inline constexpr int64_t kGgmlBlockElems = 32;
inline constexpr int64_t kQ8_0BlockBytes = 34;
inline constexpr int64_t kQ4_0BlockBytes = 18;
inline constexpr int64_t kQ4_1BlockBytes = 20;
inline constexpr int64_t kQ5_0BlockBytes = 22;
inline constexpr int64_t kQ5_1BlockBytes = 24;
inline constexpr int64_t kMXFP4BlockBytes = 17;

// Encodes a row. Of each block, with m its element of largest magnitude (the
// first of several), lo and hi its ends, and d in float32:
//   Q8_0: d = |m| / 127, q = round(x * (1 / d)), halves away from zero
//   Q4_0: d = m / -8,    code = min(15, floor(x * (1 / d) + 8.5))
//   Q5_0: d = m / -16,   code = min(31, floor(x * (1 / d) + 16.5))
//   Q4_1: d = (hi - lo) / 15, code = min(15, floor((x - lo) * (1 / d) + 0.5))
//   Q5_1: d = (hi - lo) / 31, code = floor((x - lo) * (1 / d) + 0.5)
//   MXFP4: 2^(e-127) = 2^(floor(log2 |m|) - 2), the code of the nearest value,
//         the smaller one of two
// d and m, which is lo, are rounded to F16 afterwards, as ggml does; codes are
// those of 0 where d is 0. Preconditions (checked): row.size() is a multiple of
// 32, and blocks has room for exactly as many; the values fit (not checked:
// FirstUnfitForGgml tells). The same bits on every machine, and those of ggml's
// reference quantizer; but it takes log2 in float32, and so the next e of MXFP4
// for an |m| within 1e-6 below a power of two. Thread-safe.
void EncodeQ8_0(absl::Span<const float> row, absl::Span<uint8_t> blocks);
void EncodeQ4_0(absl::Span<const float> row, absl::Span<uint8_t> blocks);
void EncodeQ4_1(absl::Span<const float> row, absl::Span<uint8_t> blocks);
void EncodeQ5_0(absl::Span<const float> row, absl::Span<uint8_t> blocks);
void EncodeQ5_1(absl::Span<const float> row, absl::Span<uint8_t> blocks);
void EncodeMXFP4(absl::Span<const float> row, absl::Span<uint8_t> blocks);

// The magnitude that every element must be below for `type`, one of those that
// GgmlType names, to hold it: beyond, it or the scale of its block could become
// infinite in the type that it is stored in.
float GgmlLimit(GgmlType type);

// Index of the first element that is not: too large, NaN or infinite.
// row.size() when there is none.
int64_t FirstUnfitForGgml(GgmlType type, absl::Span<const float> row);

// Decodes blocks; for the others see ggml_codec.h. Preconditions (checked): the
// sizes, as for encoding.
void DecodeQ8_0(absl::Span<const uint8_t> blocks, absl::Span<float> row);
void DecodeQ4_0(absl::Span<const uint8_t> blocks, absl::Span<float> row);

}  // namespace qeff

#endif  // QEFF_FORMAT_GGML_BLOCKS_H_
