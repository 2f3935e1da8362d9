// SPDX-License-Identifier: Apache-2.0

#include "qeff/format/sparse_mask.h"

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

TEST(SparseMaskTest, GoldenBytes) {
  const std::vector<uint8_t> elements = {0, 7, 0, 0, 255, 1, 0, 0, 0, 3};
  const uint64_t mask = MaskOf(absl::MakeConstSpan(elements));
  EXPECT_EQ(mask, 0x232u);
  EXPECT_EQ(KeptElems(mask), 4);
  std::vector<uint8_t> kept(4);
  EXPECT_EQ(Compress(mask, absl::MakeConstSpan(elements), kept.data()), 4);
  EXPECT_EQ(kept, (std::vector<uint8_t>{7, 255, 1, 3}));
}

TEST(SparseMaskTest, FixedNumbersTakeTheLowestZeros) {
  const std::vector<uint16_t> elements = {0, 0, 5, 0, 0, 6};
  const auto span = absl::MakeConstSpan(elements);
  EXPECT_EQ(MaskOf(span, 1), 0x24u);
  EXPECT_EQ(MaskOf(span, 4), 0x27u);
  EXPECT_EQ(MaskOf(span, 60), 0x3Fu);
}

template <typename T>
void CheckRoundTrips() {
  const Random random(1);
  uint64_t draw = 0;
  for (size_t size = 0; size <= 64; ++size) {
    for (int percent : {0, 1, 50, 99, 100}) {
      std::vector<T> elements(size);
      for (T& e : elements) {
        const bool zero =
            static_cast<int>(random.At(++draw) >> 32) % 100 < percent;
        e = zero ? T{0} : static_cast<T>(random.At(++draw) >> 40 | 1);
      }
      for (int min_kept : {0, 20}) {
        const uint64_t mask = MaskOf(absl::MakeConstSpan(elements), min_kept);
        std::vector<T> kept(size + 1, T{77});
        const int count =
            Compress(mask, absl::MakeConstSpan(elements), kept.data());
        EXPECT_EQ(count, KeptElems(mask));
        EXPECT_EQ(kept[static_cast<size_t>(count)], T{77});
        std::vector<T> back(size, T{9});
        Expand(mask, kept.data(), absl::MakeSpan(back));
        EXPECT_EQ(back, elements);
      }
    }
  }
}

TEST(SparseMaskTest, RoundTripsOfBytes) { CheckRoundTrips<uint8_t>(); }

TEST(SparseMaskTest, RoundTripsOfWords) { CheckRoundTrips<uint16_t>(); }

}  // namespace
}  // namespace qeff
