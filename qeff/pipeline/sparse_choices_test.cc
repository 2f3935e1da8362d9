// SPDX-License-Identifier: Apache-2.0

#include "qeff/pipeline/sparse_choices.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace qeff {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

SchemeSizes Sizes() {
  SchemeSizes sizes;
  for (const auto& [scheme, bits, code_bits] :
       {std::make_tuple("int2_g64", 2.25, 2),
        std::make_tuple("int4_g128", 4.125, 4),
        std::make_tuple("int8", 8.0625, 8)}) {
    SchemeSize size;
    size.scheme = scheme;
    size.bits_per_weight = bits;
    size.bits = code_bits;
    sizes.schemes.push_back(size);
  }
  return sizes;
}

std::vector<std::string> Names(double bits) {
  std::vector<std::string> names;
  for (const SparseChoice& choice : SparseChoicesWithin(bits, Sizes())) {
    names.push_back(choice.name());
  }
  return names;
}

TEST(SparseChoicesTest, AsManyZerosAsTheLimitAsksFor) {
  // (5.125 - 3.25) / 4 = 0.46875
  EXPECT_THAT(Names(3.25),
              ElementsAre("0.48 of int4_g128", "2:4 of int4_g128"));
  // 2:4 takes 3.125 bits.
  EXPECT_THAT(Names(3.1), ElementsAre("0.52 of int4_g128"));
  // (9.0625 - 5) / 8 = 0.507...
  EXPECT_THAT(Names(5), ElementsAre("0.52 of int8"));
  // A quarter are zeros at least.
  EXPECT_THAT(Names(8), ElementsAre("0.25 of int8"));
}

TEST(SparseChoicesTest, NoneWhereDenseOnesFitOrTooMuchWouldGo) {
  EXPECT_THAT(Names(9), IsEmpty());
  EXPECT_THAT(Names(2.2), IsEmpty());
}

TEST(SparseChoicesTest, TakeWhatTheLimitSays) {
  for (double bits = 2.4; bits < 8; bits += 0.1) {
    const SchemeSizes sizes = Sizes();
    for (const SparseChoice& choice : SparseChoicesWithin(bits, sizes)) {
      const SchemeSize& size =
          choice.scheme == "int8" ? sizes.schemes[2] : sizes.schemes[1];
      EXPECT_LE(size.SparseBits(choice.pattern.empty() ? choice.share : 0.5),
                bits)
          << choice.name();
    }
  }
}

}  // namespace
}  // namespace qeff
