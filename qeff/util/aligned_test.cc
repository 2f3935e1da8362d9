// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/aligned.h"

#include <cstdint>
#include <utility>

#include "gtest/gtest.h"

namespace qeff {
namespace {

TEST(AlignedArrayTest, IsAlignedAndZeroAtAnySize) {
  for (const size_t size : {size_t{1}, size_t{63}, size_t{4097}, kHugePage - 1,
                            kHugePage, kHugePage + 1, 3 * kHugePage + 5}) {
    // Twice, so that memory is used again where it stays.
    for (int time = 0; time < 2; ++time) {
      AlignedArray<uint8_t> array(size);
      ASSERT_EQ(array.size(), size);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(array.data()) % kAlignment, 0u);
      size_t used = 0;
      for (const uint8_t byte : array) used += byte != 0;
      EXPECT_EQ(used, 0u) << size;
      for (uint8_t& byte : array) byte = 7;
    }
  }
}

TEST(AlignedArrayTest, MovesLargeAndSmallInTurn) {
  AlignedArray<float> small(3), large(kHugePage);
  small[2] = 2;
  large[kHugePage - 1] = 5;
  std::swap(small, large);
  EXPECT_EQ(large[2], 2);
  EXPECT_EQ(small[kHugePage - 1], 5);
  small = AlignedArray<float>();
  EXPECT_TRUE(small.empty());
}

TEST(AlignedArrayTest, RefusesWhatCannotBe) {
  EXPECT_THROW(AlignedArray<float>(static_cast<size_t>(-1) / 2),
               std::bad_alloc);
}

}  // namespace
}  // namespace qeff
