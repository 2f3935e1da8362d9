// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/host_block.h"

#include <cstring>

#include "gtest/gtest.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/reference_testutil.h"

namespace qeff {
namespace {

// A driver that walks the blocks itself gets the bits of the forward.
TEST(HostBlockTest, BlocksMakeUpTheForward) {
  const auto pool = *CreateThreadPool(2);
  for (const char* family : {"qwen3", "mpt", "gpt2"}) {
    const std::shared_ptr<const Transformer> model =
        *Transformer::Load(OpenTestModel(MakeTestModel(family)));
    const TransformerSpec& spec = model->spec();
    const std::vector<std::vector<int32_t>> sequences = {
        TestTokens(5), TestTokens(17), TestTokens(1)};
    const std::vector<int64_t> lengths = {5, 17, 1};

    Matrix<float> x(23, spec.hidden_size);
    int64_t row = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      ASSERT_TRUE(
          model->Embed(sequences[i], x.view().Rows(row, lengths[i])).ok());
      row += lengths[i];
    }
    RopeTable rope;
    std::vector<float> alibi;
    if (spec.position == PositionKind::kRope) rope = RopeTable(spec, 17);
    if (spec.position == PositionKind::kAlibi) {
      for (double slope : AlibiSlopes(spec)) {
        alibi.push_back(static_cast<float>(slope));
      }
    }
    HostScratch scratch;
    HostBlockContext context;
    context.spec = &spec;
    context.pool = pool.get();
    context.scratch = &scratch;
    context.rope = &rope;
    context.alibi = alibi;
    for (int64_t i = 0; i < spec.num_layers; ++i) {
      HostBlock block = *HostBlock::Load(*model, i, *pool);
      ASSERT_TRUE(block.Run(context, lengths, x.view()).ok());
    }
    ApplyNorm(spec, *model->LoadFinalNorm(), x.view(), x.view(), *pool);

    const auto forward = *HostForward::Create(model, pool.get());
    row = 0;
    ASSERT_TRUE(forward
                    ->Run(sequences, nullptr,
                          [&](int64_t, MatrixView<const float> hidden) {
                            for (int64_t r = 0; r < hidden.rows(); ++r) {
                              EXPECT_EQ(
                                  std::memcmp(hidden.row(r), x.row(row++),
                                              sizeof(float) * hidden.cols()),
                                  0);
                            }
                            return absl::OkStatus();
                          })
                    .ok());
    EXPECT_EQ(row, 23);
  }
}

}  // namespace
}  // namespace qeff
