// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/gptq_awq_packing.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "qeff/format/packing.h"
#include "qeff/util/check.h"

namespace qeff {
namespace {

// Rows of the side with the longer stride that are in use at once: their cache
// lines stay in the first level.
constexpr int64_t kTile = 64;

// The bits of an output within its word of AWQ.
constexpr int kAwqShift[kAwqWordCodes] = {0, 16, 4, 20, 8, 24, 12, 28};

// Columns [begin, begin + count) of `from` [rows, cols] to `to` [count, rows].
template <int kBytes>
void Transpose(int64_t rows, int64_t cols, int64_t begin, int64_t count,
               const uint8_t* from, uint8_t* to) {
  for (int64_t tile = 0; tile < rows; tile += kTile) {
    const int64_t end = std::min(rows, tile + kTile);
    for (int64_t c = 0; c < count; ++c) {
      for (int64_t r = tile; r < end; ++r) {
        std::memcpy(to + (c * rows + r) * kBytes,
                    from + (r * cols + begin + c) * kBytes, kBytes);
      }
    }
  }
}

size_t Size(int64_t a, int64_t b, int64_t bytes) {
  return static_cast<size_t>(a * b * bytes);
}

}  // namespace

void GptqToDense(int64_t words, int64_t out, int64_t begin, int64_t count,
                 absl::Span<const uint8_t> qweight, absl::Span<uint8_t> dense) {
  QEFF_CHECK(qweight.size() == Size(words, out, 4));
  QEFF_CHECK(dense.size() == Size(words, count, 4));
  QEFF_CHECK(begin >= 0 && count >= 0 && begin <= out - count);
  Transpose<4>(words, out, begin, count, qweight.data(), dense.data());
}

void DenseToGptq(int64_t words, int64_t out, absl::Span<const uint8_t> dense,
                 absl::Span<uint8_t> qweight) {
  TransposeElements(4, out, words, dense, qweight);
}

void AwqToDense(int64_t in, int64_t out, int64_t begin, int64_t count,
                absl::Span<const uint8_t> qweight, absl::Span<uint8_t> dense) {
  const int64_t row_bytes = 4 * PackedWords(kAwqBits, in);
  QEFF_CHECK(out % kAwqWordCodes == 0);
  QEFF_CHECK(qweight.size() == Size(in, out / kAwqWordCodes, 4));
  QEFF_CHECK(dense.size() == Size(count, row_bytes, 1));
  QEFF_CHECK(begin >= 0 && count >= 0 && begin <= out - count);
  std::fill(dense.begin(), dense.end(), uint8_t{0});
  for (int64_t tile = 0; tile < in; tile += kTile) {
    const int64_t end = std::min(in, tile + kTile);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = begin + r;
      const int shift = kAwqShift[row % kAwqWordCodes];
      // An output is within one byte of its word.
      const uint8_t* from =
          qweight.data() + row / kAwqWordCodes * 4 + shift / 8;
      uint8_t* to = dense.data() + r * row_bytes;
      for (int64_t i = tile; i < end; ++i) {
        const int code = (from[i * out / 2] >> shift % 8) & 15;
        to[i / 2] = static_cast<uint8_t>(to[i / 2] | code << i % 2 * 4);
      }
    }
  }
}

void DenseToAwq(int64_t in, int64_t out, absl::Span<const uint8_t> dense,
                absl::Span<uint8_t> qweight) {
  const int64_t row_bytes = 4 * PackedWords(kAwqBits, in);
  QEFF_CHECK(out % kAwqWordCodes == 0);
  QEFF_CHECK(qweight.size() == Size(in, out / kAwqWordCodes, 4));
  QEFF_CHECK(dense.size() == Size(out, row_bytes, 1));
  std::fill(qweight.begin(), qweight.end(), uint8_t{0});
  for (int64_t tile = 0; tile < in; tile += kTile) {
    const int64_t end = std::min(in, tile + kTile);
    for (int64_t r = 0; r < out; ++r) {
      const int shift = kAwqShift[r % kAwqWordCodes];
      const uint8_t* from = dense.data() + r * row_bytes;
      uint8_t* to = qweight.data() + r / kAwqWordCodes * 4 + shift / 8;
      for (int64_t i = tile; i < end; ++i) {
        const int code = (from[i / 2] >> i % 2 * 4) & 15;
        uint8_t* byte = to + i * out / 2;
        *byte = static_cast<uint8_t>(*byte | code << shift % 8);
      }
    }
  }
}

void UnpackAwqCodes(absl::Span<const uint8_t> words,
                    absl::Span<uint8_t> codes) {
  QEFF_CHECK(codes.size() % kAwqWordCodes == 0 &&
             words.size() == codes.size() / 2);
  for (size_t i = 0; i < codes.size(); ++i) {
    const int shift = kAwqShift[i % kAwqWordCodes];
    const size_t byte = i / kAwqWordCodes * 4 + static_cast<size_t>(shift / 8);
    codes[i] = static_cast<uint8_t>((words[byte] >> shift % 8) & 15);
  }
}

void PackAwqCodes(absl::Span<const uint8_t> codes, absl::Span<uint8_t> words) {
  QEFF_CHECK(codes.size() % kAwqWordCodes == 0 &&
             words.size() == codes.size() / 2);
  std::fill(words.begin(), words.end(), uint8_t{0});
  for (size_t i = 0; i < codes.size(); ++i) {
    const int shift = kAwqShift[i % kAwqWordCodes];
    const size_t byte = i / kAwqWordCodes * 4 + static_cast<size_t>(shift / 8);
    words[byte] = static_cast<uint8_t>(words[byte] | codes[i] << shift % 8);
  }
}

void TransposeElements(int64_t bytes, int64_t rows, int64_t cols,
                       absl::Span<const uint8_t> from, absl::Span<uint8_t> to) {
  QEFF_CHECK(from.size() == Size(rows, cols, bytes) &&
             to.size() == from.size());
  QEFF_CHECK(bytes == 2 || bytes == 4);
  if (bytes == 2) {
    Transpose<2>(rows, cols, 0, cols, from.data(), to.data());
  } else {
    Transpose<4>(rows, cols, 0, cols, from.data(), to.data());
  }
}

}  // namespace qeff
