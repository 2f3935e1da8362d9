// SPDX-License-Identifier: Apache-2.0
//
// Codes as GPTQ and AWQ folders pack them, to rows in the dense form of
// packing.h and back. Both store matrices with the inputs first: word (i, r)
// is in row i of a matrix of 32-bit words, little-endian.
//
// GPTQ: column r of qweight [in * bits / 32, out] is the dense form of row r;
// row g of qzeros [groups, out * bits / 32] the dense form of that group's
// zero points.
//
// AWQ (GEMM), 4 bits: word c of a row of qweight [in, out / 8] holds outputs
// 8c to 8c + 7; bits 4n to 4n + 3 are output 8c + kAwqOrder[n]. qzeros
// [groups, out / 8] likewise.
//
// All functions are thread-safe, and check the sizes of their arguments.
// Source: AutoGPTQ, nn_modules/qlinear; AutoAWQ, utils/packing_utils.

#ifndef QEFF_FORMAT_GPTQ_AWQ_PACKING_H_
#define QEFF_FORMAT_GPTQ_AWQ_PACKING_H_

#include <cstdint>

#include "absl/types/span.h"

namespace qeff {

inline constexpr int64_t kAwqBits = 4;
inline constexpr int64_t kAwqWordCodes = 8;
inline constexpr int kAwqOrder[kAwqWordCodes] = {0, 2, 4, 6, 1, 3, 5, 7};

// Codes that fill whole words, of which in and out must be multiples in GPTQ.
// Precondition: bits is 2, 3, 4 or 8.
constexpr int64_t GptqMultiple(int bits) { return bits == 3 ? 32 : 32 / bits; }

// Rows [begin, begin + count) of `qweight` [words, out] in dense form
// [count, words].
void GptqToDense(int64_t words, int64_t out, int64_t begin, int64_t count,
                 absl::Span<const uint8_t> qweight, absl::Span<uint8_t> dense);

// The inverse for all rows: `dense` [out, words] to `qweight`.
void DenseToGptq(int64_t words, int64_t out, absl::Span<const uint8_t> dense,
                 absl::Span<uint8_t> qweight);

// Rows [begin, begin + count) of `qweight` [in, out / 8] in dense form, 4 bits
// each. Precondition (checked): out is a multiple of 8.
void AwqToDense(int64_t in, int64_t out, int64_t begin, int64_t count,
                absl::Span<const uint8_t> qweight, absl::Span<uint8_t> dense);

// The inverse for all rows.
void DenseToAwq(int64_t in, int64_t out, absl::Span<const uint8_t> dense,
                absl::Span<uint8_t> qweight);

// The codes of one row of words of AWQ, such as zero points of a group, and
// back. Precondition (checked): codes.size() is a multiple of 8.
void UnpackAwqCodes(absl::Span<const uint8_t> words, absl::Span<uint8_t> codes);
void PackAwqCodes(absl::Span<const uint8_t> codes, absl::Span<uint8_t> words);

// Elements of `bytes` bytes (2 or 4) each: [rows, cols] to [cols, rows].
// Scales are stored [groups, out] by both.
void TransposeElements(int64_t bytes, int64_t rows, int64_t cols,
                       absl::Span<const uint8_t> from, absl::Span<uint8_t> to);

}  // namespace qeff

#endif  // QEFF_FORMAT_GPTQ_AWQ_PACKING_H_
