// SPDX-License-Identifier: Apache-2.0
//
// ggml's blocks against ggml itself, of the npm package that
// `tools/setup.sh --interop` installs: sizes of all types, every bit of what
// its quantizer makes of random rows and its dequantizer of random blocks, and
// the error of its quantizer with an importance matrix.

#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/ggml_block_params.h"
#include "qeff/format/ggml_blocks.h"
#include "qeff/format/ggml_codec.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

class GgmlInteropTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* modules = std::getenv("QEFF_NODE_MODULES");
    const std::string path =
        std::string(modules == nullptr ? "" : modules) +
        "/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so";
    library_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) GTEST_SKIP() << dlerror();
  }
  void TearDown() override {
    if (library_ != nullptr) dlclose(library_);
  }

  template <typename Function>
  Function* Find(const char* name) {
    void* symbol = dlsym(library_, name);
    EXPECT_NE(symbol, nullptr) << name;
    return reinterpret_cast<Function*>(symbol);
  }

 private:
  void* library_ = nullptr;
};

TEST_F(GgmlInteropTest, SizesOfTypes) {
  auto* block_elems = Find<int64_t(int)>("ggml_blck_size");
  auto* block_bytes = Find<size_t(int)>("ggml_type_size");
  int known = 0;
  for (int number = 0; number <= 40; ++number) {
    const auto* traits = FindGgmlType(static_cast<GgmlType>(number));
    if (traits == nullptr) {
      EXPECT_EQ(block_elems(number), 0) << number;
      continue;
    }
    ++known;
    EXPECT_EQ(block_elems(number), traits->block_elems) << traits->name;
    EXPECT_EQ(block_bytes(number), traits->block_bytes) << traits->name;
  }
  EXPECT_EQ(known, 33);
}

// Rows of values that matter: normal ones of many sizes, zeros, exact halves
// of a step, and scales that are subnormal in F16.
std::vector<float> TestRow(const Random& random, uint64_t row, int64_t elems) {
  std::vector<float> values(static_cast<size_t>(elems));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t at = row * values.size() + i;
    const int exponent = static_cast<int>(random.At(row) % 40) - 28;
    values[i] = std::ldexp(static_cast<float>(random.NormalAt(at)), exponent);
    if (random.At(at) % 7 == 0) values[i] = 0;
    if (row % 3 == 0) values[i] = std::round(values[i] * 2) / 2;
  }
  return values;
}

struct InteropType {
  GgmlType type;
  const char* quantize;  // ggml's functions
  const char* dequantize;
  bool takes_importance = true;  // in our encoder
};

constexpr InteropType kInteropTypes[] = {
    {GgmlType::kQ8_0, "quantize_q8_0", "dequantize_row_q8_0"},
    {GgmlType::kQ4_0, "quantize_q4_0", "dequantize_row_q4_0"},
    {GgmlType::kQ4_K, "quantize_q4_K", "dequantize_row_q4_K"},
    {GgmlType::kQ5_K, "quantize_q5_K", "dequantize_row_q5_K"},
    {GgmlType::kQ6_K, "quantize_q6_K", "dequantize_row_q6_K"},
    {GgmlType::kQ4_1, "quantize_q4_1", "dequantize_row_q4_1", false},
    {GgmlType::kQ5_0, "quantize_q5_0", "dequantize_row_q5_0", false},
    {GgmlType::kQ5_1, "quantize_q5_1", "dequantize_row_q5_1", false},
    {GgmlType::kMXFP4, "quantize_mxfp4", "dequantize_row_mxfp4", false},
};

TEST_F(GgmlInteropTest, TheSameBitsAsItsQuantizer) {
  // (source, destination, rows, elements a row, importance) -> bytes
  using Quantize = size_t(const float*, void*, int64_t, int64_t, const float*);
  constexpr int64_t kElems = 256;
  const Random random(7, 0);
  for (const InteropType& interop : kInteropTypes) {
    auto* quantize = Find<Quantize>(interop.quantize);
    const auto& format = *FindGgmlBlockFormat(interop.type);
    std::vector<uint8_t> ours(
        static_cast<size_t>(kElems / format.block_elems * format.block_bytes));
    std::vector<uint8_t> theirs(ours.size());
    for (uint64_t row = 0; row < 20000; ++row) {
      const std::vector<float> values = TestRow(random, row, kElems);
      EncodeGgmlRow(interop.type, values, {}, absl::MakeSpan(ours));
      ASSERT_EQ(quantize(values.data(), theirs.data(), 1, kElems, nullptr),
                theirs.size());
      ASSERT_EQ(ours, theirs) << interop.quantize << ", row " << row;
    }
  }
}

// Any bytes, but for scales that are NaN, whose sign and payload may differ.
TEST_F(GgmlInteropTest, TheSameBitsAsItsDequantizer) {
  using Dequantize = void(const void*, float*, int64_t);
  constexpr int64_t kElems = 256;
  const Random random(8, 0);
  for (const InteropType& interop : kInteropTypes) {
    auto* dequantize = Find<Dequantize>(interop.dequantize);
    const auto& format = *FindGgmlBlockFormat(interop.type);
    std::vector<uint8_t> blocks(
        static_cast<size_t>(kElems / format.block_elems * format.block_bytes));
    std::vector<float> ours(kElems);
    std::vector<float> theirs(kElems);
    for (uint64_t row = 0; row < 20000; ++row) {
      for (size_t i = 0; i < blocks.size(); ++i) {
        blocks[i] =
            static_cast<uint8_t>(random.At(row * blocks.size() + i) >> 40);
      }
      DecodeGgmlRow(interop.type, blocks, absl::MakeSpan(ours));
      dequantize(blocks.data(), theirs.data(), kElems);
      for (size_t i = 0; i < ours.size(); ++i) {
        if (std::isnan(ours[i]) && std::isnan(theirs[i])) continue;
        ASSERT_EQ(std::memcmp(&ours[i], &theirs[i], sizeof(float)), 0)
            << interop.dequantize << ", row " << row << ", element " << i
            << ": " << ours[i] << ", " << theirs[i];
      }
    }
  }
}

// Our search against its own with an importance matrix: the weighted error of
// the same normal weights.
TEST_F(GgmlInteropTest, LessErrorThanItsQuantizerWithImportance) {
  using Quantize = size_t(const float*, void*, int64_t, int64_t, const float*);
  constexpr int64_t kElems = 512;
  const Random random(9, 0);
  std::vector<float> importance(kElems);
  for (size_t i = 0; i < importance.size(); ++i) {
    importance[i] = std::exp(random.NormalAt(1000000 + i));
  }
  for (const InteropType& interop : kInteropTypes) {
    if (!interop.takes_importance) continue;
    auto* quantize = Find<Quantize>(interop.quantize);
    const auto& format = *FindGgmlBlockFormat(interop.type);
    std::vector<uint8_t> blocks(
        static_cast<size_t>(kElems / format.block_elems * format.block_bytes));
    std::vector<float> values(kElems);
    std::vector<float> decoded(kElems);
    const auto error = [&] {
      DecodeGgmlRow(interop.type, blocks, absl::MakeSpan(decoded));
      double sum = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        const double diff = values[i] - decoded[i];
        sum += importance[i] * diff * diff;
      }
      return sum;
    };
    double ours = 0;
    double theirs = 0;
    for (uint64_t row = 0; row < 64; ++row) {
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = random.NormalAt(row * kElems + i);
      }
      EncodeGgmlRow(interop.type, values, importance, absl::MakeSpan(blocks));
      ours += error();
      quantize(values.data(), blocks.data(), 1, kElems, importance.data());
      theirs += error();
    }
    const std::string name(FindGgmlType(interop.type)->name);
    RecordProperty(name, std::to_string(std::sqrt(ours / theirs)));
    std::cout << name << ": root-mean-square error " << std::sqrt(ours / theirs)
              << " of ggml's\n";
    EXPECT_LE(ours, theirs * 1.001) << name;
  }
}

}  // namespace
}  // namespace qeff
