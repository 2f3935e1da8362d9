// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/gptq_awq_packing.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/packing.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

// code(out, in) of row-major codes [out, in] in dense form.
std::vector<uint8_t> Dense(int bits, int64_t in,
                           const std::vector<uint8_t>& codes) {
  const size_t row = static_cast<size_t>(in);
  const size_t row_bytes = static_cast<size_t>(4 * PackedWords(bits, in));
  std::vector<uint8_t> dense(codes.size() / row * row_bytes);
  for (size_t r = 0; r < codes.size() / row; ++r) {
    PackCodes(bits, absl::MakeSpan(codes).subspan(r * row, row),
              absl::MakeSpan(dense).subspan(r * row_bytes, row_bytes));
  }
  return dense;
}

std::vector<int32_t> Words(const std::vector<uint8_t>& bytes) {
  std::vector<int32_t> words(bytes.size() / 4);
  std::memcpy(words.data(), bytes.data(), bytes.size());
  return words;
}

std::vector<uint8_t> RandomCodes(int bits, int64_t count) {
  Random random(7);
  std::vector<uint8_t> codes(static_cast<size_t>(count));
  for (uint8_t& code : codes) {
    code = static_cast<uint8_t>(random.NextBelow(uint64_t{1} << bits));
  }
  return codes;
}

TEST(GptqPacking, GoldenFourBits) {
  std::vector<uint8_t> codes;  // q[in][out] = (3 in + out) % 16
  for (int out = 0; out < 8; ++out) {
    for (int in = 0; in < 8; ++in) {
      codes.push_back(static_cast<uint8_t>((3 * in + out) % 16));
    }
  }
  std::vector<uint8_t> qweight(32);
  DenseToGptq(1, 8, Dense(4, 8, codes), absl::MakeSpan(qweight));
  EXPECT_EQ(Words(qweight),
            std::vector<int32_t>({1392285232, 1661839169, 1948170322,
                                  -2060465821, -1775183244, -1488852091,
                                  -1202520938, -916255321}));
}

TEST(GptqPacking, GoldenThreeBits) {
  std::vector<uint8_t> codes;
  for (int in = 0; in < 32; ++in) {
    codes.push_back(static_cast<uint8_t>(5 * in % 8));
  }
  std::vector<uint8_t> qweight(12);
  DenseToGptq(3, 1, Dense(3, 32, codes), absl::MakeSpan(qweight));
  EXPECT_EQ(Words(qweight),
            std::vector<int32_t>({-1468477784, -827819826, 2026809464}));
}

TEST(AwqPacking, Golden) {
  const std::vector<uint8_t> codes = {0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<uint8_t> word(4);
  PackAwqCodes(codes, absl::MakeSpan(word));
  EXPECT_EQ(Words(word), std::vector<int32_t>({0x75316420}));
  std::vector<uint8_t> again(8);
  UnpackAwqCodes(word, absl::MakeSpan(again));
  EXPECT_EQ(again, codes);
  // One input of eight outputs is such a word.
  std::vector<uint8_t> qweight(4);
  DenseToAwq(1, 8, Dense(4, 1, codes), absl::MakeSpan(qweight));
  EXPECT_EQ(qweight, word);
}

TEST(AwqPacking, TheOrderIsThatOfTheTable) {
  for (int n = 0; n < 8; ++n) {
    std::vector<uint8_t> codes(8), word(4);
    codes[static_cast<size_t>(kAwqOrder[n])] = 0xF;
    PackAwqCodes(codes, absl::MakeSpan(word));
    EXPECT_EQ(static_cast<uint32_t>(Words(word)[0]), uint32_t{0xF} << 4 * n);
  }
}

TEST(GptqPacking, AnyRowsComeBack) {
  for (const int bits : {2, 3, 4, 8}) {
    const int64_t in = 5 * GptqMultiple(bits) * 8, out = 67;
    const int64_t words = PackedWords(bits, in);
    const std::vector<uint8_t> dense =
        Dense(bits, in, RandomCodes(bits, in * out));
    std::vector<uint8_t> qweight(dense.size());
    DenseToGptq(words, out, dense, absl::MakeSpan(qweight));
    for (const auto& [begin, count] : std::vector<std::pair<int64_t, int64_t>>{
             {0, out}, {0, 1}, {66, 1}, {13, 40}, {5, 0}}) {
      std::vector<uint8_t> rows(static_cast<size_t>(count * words * 4));
      GptqToDense(words, out, begin, count, qweight, absl::MakeSpan(rows));
      EXPECT_EQ(rows, std::vector<uint8_t>(
                          dense.begin() + begin * words * 4,
                          dense.begin() + (begin + count) * words * 4))
          << bits << " " << begin;
    }
  }
}

TEST(AwqPacking, AnyRowsComeBack) {
  const int64_t out = 72;
  for (const int64_t in : {1, 2, 7, 64, 65, 200}) {
    const int64_t row_bytes = 4 * PackedWords(4, in);
    const std::vector<uint8_t> dense = Dense(4, in, RandomCodes(4, in * out));
    std::vector<uint8_t> qweight(static_cast<size_t>(in * out / 2));
    DenseToAwq(in, out, dense, absl::MakeSpan(qweight));
    for (const auto& [begin, count] : std::vector<std::pair<int64_t, int64_t>>{
             {0, out}, {71, 1}, {13, 40}, {5, 0}}) {
      std::vector<uint8_t> rows(static_cast<size_t>(count * row_bytes));
      AwqToDense(in, out, begin, count, qweight, absl::MakeSpan(rows));
      EXPECT_EQ(rows, std::vector<uint8_t>(
                          dense.begin() + begin * row_bytes,
                          dense.begin() + (begin + count) * row_bytes))
          << in << " " << begin;
    }
  }
}

TEST(GptqAwqPacking, TransposesTwice) {
  std::vector<uint8_t> bytes = RandomCodes(8, 70 * 66 * 4);
  for (const int64_t size : {2, 4}) {
    const int64_t rows = size == 2 ? 140 : 70;
    std::vector<uint8_t> turned(bytes.size()), again(bytes.size());
    TransposeElements(size, rows, 66, bytes, absl::MakeSpan(turned));
    TransposeElements(size, 66, rows, turned, absl::MakeSpan(again));
    EXPECT_EQ(again, bytes);
    EXPECT_NE(turned, bytes);
    EXPECT_EQ(turned[static_cast<size_t>(size)],
              bytes[static_cast<size_t>(66 * size)]);
  }
}

}  // namespace
}  // namespace qeff
