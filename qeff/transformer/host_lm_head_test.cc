// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/host_lm_head.h"

#include <cmath>
#include <cstring>

#include "gtest/gtest.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

// A vocabulary of 20 in one slice, or in two of 16 and 4.
TEST(HostLmHeadTest, SlicesGiveTheSameBits) {
  const auto pool = *CreateThreadPool(2);
  for (const char* changes : {"{}", R"({"tie_word_embeddings": true})"}) {
    const std::shared_ptr<const Transformer> model =
        *Transformer::Load(OpenTestModel(MakeTestModel("llama", changes)));
    Matrix<float> hidden(4, 24);  // the last row is room to read behind
    for (size_t i = 0; i < hidden.span().size(); ++i) {
      hidden.data()[i] = std::sin(static_cast<float>(i));
    }
    const auto input = hidden.view().Rows(0, 3);
    Matrix<float> expected(3, 20);
    HostLmHead whole(model, /*keep=*/true);
    ASSERT_TRUE(whole.Run(input, expected.view(), *pool).ok());
    for (bool keep : {false, true}) {
      HostLmHead sliced(model, keep, /*slice_elems=*/16 * 24);
      for (int call = 0; call < 2; ++call) {
        Matrix<float> logits(3, 20);
        ASSERT_TRUE(sliced.Run(input, logits.view(), *pool).ok());
        EXPECT_EQ(std::memcmp(logits.data(), expected.data(),
                              expected.span().size() * sizeof(float)),
                  0);
      }
    }
  }
}

}  // namespace
}  // namespace qeff
