// SPDX-License-Identifier: Apache-2.0

#include "qeff/util/checksum.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace qeff {
namespace {

uint64_t Of(const std::string& text) {
  return Checksum64(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

TEST(ChecksumTest, IsXxh64) {
  // Published values and those of `xxhsum -H64`.
  EXPECT_EQ(Of(""), 0xEF46DB3751D8E999u);
  EXPECT_EQ(Of("a"), 0xD24EC4F1A98C6E5Bu);
  EXPECT_EQ(Of("as"), 0x1C330FB2D66BE179u);
  EXPECT_EQ(Of("asd"), 0x631C37CE72A97393u);
  EXPECT_EQ(Of("asdf"), 0x415872F599CEA71Eu);
  EXPECT_EQ(
      Of("Call me Ishmael. Some years ago--never mind how long precisely-"),
      0x02A2E85470D6FD96u);
}

TEST(ChecksumTest, SeesEveryBitLengthAndAlignment) {
  std::vector<uint8_t> bytes(140);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(i * 37);
  }
  std::set<uint64_t> seen;
  for (size_t size = 0; size <= 70; ++size) {
    const uint64_t sum = Checksum64({bytes.data(), size});
    EXPECT_TRUE(seen.insert(sum).second) << size;
    for (size_t shift = 1; shift < 9; ++shift) {
      std::vector<uint8_t> moved(shift);
      moved.insert(moved.end(), bytes.begin(), bytes.begin() + size);
      EXPECT_EQ(Checksum64({moved.data() + shift, size}), sum);
    }
    for (size_t bit = 0; bit < 8 * size; ++bit) {
      bytes[bit / 8] ^= 1 << bit % 8;
      EXPECT_TRUE(seen.insert(Checksum64({bytes.data(), size})).second)
          << size << " bytes, bit " << bit;
      bytes[bit / 8] ^= 1 << bit % 8;
    }
  }
}

}  // namespace
}  // namespace qeff
