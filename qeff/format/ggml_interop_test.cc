// SPDX-License-Identifier: Apache-2.0
//
// ggml_blocks against ggml itself, of the npm package that
// `tools/setup.sh --interop` installs: sizes of all types, and every bit of
// what its quantizer makes of random rows.

#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/format/ggml_blocks.h"
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

TEST_F(GgmlInteropTest, TheSameBitsAsItsQuantizer) {
  // (source, destination, rows, elements a row, importance) -> bytes
  using Quantize = size_t(const float*, void*, int64_t, int64_t, const float*);
  auto* quantize_q8_0 = Find<Quantize>("quantize_q8_0");
  auto* quantize_q4_0 = Find<Quantize>("quantize_q4_0");
  constexpr int64_t kElems = 256;
  const Random random(7, 0);
  for (uint64_t row = 0; row < 20000; ++row) {
    const std::vector<float> values = TestRow(random, row, kElems);
    std::vector<uint8_t> ours(kElems / kGgmlBlockElems * kQ8_0BlockBytes);
    std::vector<uint8_t> theirs(ours.size());
    EncodeQ8_0(values, absl::MakeSpan(ours));
    ASSERT_EQ(quantize_q8_0(values.data(), theirs.data(), 1, kElems, nullptr),
              theirs.size());
    ASSERT_EQ(ours, theirs) << "Q8_0, row " << row;
    ours.resize(kElems / kGgmlBlockElems * kQ4_0BlockBytes);
    theirs.resize(ours.size());
    EncodeQ4_0(values, absl::MakeSpan(ours));
    ASSERT_EQ(quantize_q4_0(values.data(), theirs.data(), 1, kElems, nullptr),
              theirs.size());
    ASSERT_EQ(ours, theirs) << "Q4_0, row " << row;
  }
}

}  // namespace
}  // namespace qeff
