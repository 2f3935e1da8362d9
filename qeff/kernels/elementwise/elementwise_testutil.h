// SPDX-License-Identifier: Apache-2.0
//
// What the tests of this folder share.

#ifndef QEFF_KERNELS_ELEMENTWISE_ELEMENTWISE_TESTUTIL_H_
#define QEFF_KERNELS_ELEMENTWISE_ELEMENTWISE_TESTUTIL_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "hwy/highway.h"
#include "qeff/util/random.h"

namespace qeff {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Calls `body` with each target of this machine selected in turn. Compile the
// test with QEFF_KERNEL_COPTS, or it will not see AVX3_DL.
template <typename Body>
void ForEachTarget(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    SCOPED_TRACE(hwy::TargetName(target));
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
}

inline uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// A row that begins `misalignment` floats after an aligned address and has NaN
// before and after it.
class PoisonedRow {
 public:
  PoisonedRow(size_t size, size_t misalignment, uint64_t seed)
      : data_(kMargin + misalignment + size + kMargin, kNaN),
        begin_(kMargin + misalignment),
        size_(size) {
    const Random random(seed);
    for (size_t i = 0; i < size; ++i) data_[begin_ + i] = random.NormalAt(i);
  }

  absl::Span<float> span() { return {data_.data() + begin_, size_}; }
  std::vector<float> Copy() const {
    const auto first = data_.begin() + static_cast<ptrdiff_t>(begin_);
    return {first, first + static_cast<ptrdiff_t>(size_)};
  }

  void ExpectSurroundingsUntouched() const {
    for (size_t i = 0; i < data_.size(); ++i) {
      if (i < begin_ || i >= begin_ + size_) {
        EXPECT_TRUE(std::isnan(data_[i])) << "at " << i << " of " << size_;
      }
    }
  }

 private:
  static constexpr size_t kMargin = 32;
  std::vector<float> data_;
  size_t begin_;
  size_t size_;
};

// Every `step`-th float from `from` to `to`, both of the same sign.
inline std::vector<float> FloatsBetween(float from, float to, uint32_t step) {
  std::vector<float> floats;
  const uint32_t first = BitsOf(from), last = BitsOf(to);
  for (uint32_t bits = first; bits <= last; bits += step) {
    floats.push_back(FloatOf(bits));
  }
  return floats;
}

// Calls function(span) on copies of `inputs`, once for each target; all must
// give the bits of the first, which are returned. NaN equals NaN.
template <typename Function>
std::vector<float> SameOnEveryTarget(const std::vector<float>& inputs,
                                     const Function& function) {
  std::vector<float> first;
  ForEachTarget([&] {
    std::vector<float> outputs = inputs;
    function(absl::MakeSpan(outputs));
    if (first.empty()) first = outputs;
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (std::isnan(first[i]) && std::isnan(outputs[i])) continue;
      ASSERT_EQ(BitsOf(outputs[i]), BitsOf(first[i])) << "x = " << inputs[i];
    }
  });
  return first;
}

}  // namespace qeff

#endif  // QEFF_KERNELS_ELEMENTWISE_ELEMENTWISE_TESTUTIL_H_
