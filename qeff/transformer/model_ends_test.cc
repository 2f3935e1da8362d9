// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/model_ends.h"

#include <vector>

#include "gtest/gtest.h"
#include "qeff/transformer/gradient_testutil.h"

namespace qeff {
namespace {

TEST(ModelEndsTest, EmbeddingsAddUpRepeatedTokens) {
  const auto pool = *CreateThreadPool(2);
  const std::vector<int64_t> lengths = {2, 3};
  const std::vector<int32_t> ids = {3, 1, 3, 3, 0};
  const Matrix<float> tokens = RandomMatrix(4, 70, 1);
  const Matrix<float> positions = RandomMatrix(3, 70, 2);
  Matrix<float> x(5, 70), dtokens(4, 70), dpositions(3, 70), none;
  EmbedTokens(tokens.view(), positions.view(), lengths, ids, x.view(), *pool);
  const Matrix<float> dx = RandomMatrix(5, 70, 3);
  EmbedTokensBackward(lengths, ids, dx.view(), dtokens.view(),
                      dpositions.view(), *pool);
  for (int64_t c = 0; c < 70; ++c) {
    EXPECT_EQ(x.row(3)[c], tokens.row(3)[c] + positions.row(1)[c]);
    const auto d = [&](int64_t r) { return dx.row(r)[c]; };
    EXPECT_EQ(dtokens.row(3)[c], (d(0) + d(2)) + d(3));
    EXPECT_EQ(dtokens.row(0)[c], d(4));
    EXPECT_EQ(dtokens.row(2)[c], 0.0f);
    EXPECT_EQ(dpositions.row(1)[c], d(1) + d(3));
    EXPECT_EQ(dpositions.row(2)[c], d(4));
  }
  EmbedTokens(tokens.view(), none.view(), lengths, ids, x.view(), *pool);
  EXPECT_EQ(x.row(4)[69], tokens.row(0)[69]);
}

}  // namespace
}  // namespace qeff
