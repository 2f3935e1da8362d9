// SPDX-License-Identifier: Apache-2.0

#include "qeff/quant/finite_weights.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

constexpr char kName[] = "model.embed_tokens.weight";

// Of a checkpoint whose tensor kName holds `values`.
absl::optional<int64_t> First(const std::vector<float>& values) {
  const std::string folder = MakeTestFolder();
  WriteTestCheckpoint(
      folder, R"({"model_type": "llama"})",
      {{kName, Shape({static_cast<int64_t>(values.size())}), values}});
  const auto checkpoint = Checkpoint::Open(folder).value();
  const auto first = FirstNotFinite(*checkpoint, kName);
  EXPECT_TRUE(first.ok()) << first.status();
  return *first;
}

TEST(FirstNotFinite, AnywhereInATensorOfSeveralPieces) {
  const size_t count = (3 << 16) + 5;
  std::vector<float> values(count, -1.0f);
  EXPECT_FALSE(First(values).has_value());
  for (const size_t at : {count - 1, size_t{2} << 16, size_t{77}}) {
    values[at] = at == 77 ? NAN : -INFINITY;
    EXPECT_EQ(First(values), static_cast<int64_t>(at));
  }
}

TEST(FirstNotFinite, LargestAndSmallestAreFinite) {
  EXPECT_FALSE(
      First({std::numeric_limits<float>::max(), 1e-45f, -0.0f, 0}).has_value());
}

TEST(NotFiniteText, Indices) {
  EXPECT_EQ(NotFiniteText(Shape({4, 5}), 13),
            "element [2, 3] is NaN or infinite");
  EXPECT_EQ(NotFiniteText(Shape({4}), 3), "element [3] is NaN or infinite");
}

}  // namespace
}  // namespace qeff
